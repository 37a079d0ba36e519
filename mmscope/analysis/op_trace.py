"""Every operator that a model runs, with its place in the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mmscope.analysis.formulas import formula_of, op_name
from mmscope.models import ExitOnly, TokenBackbone

OUTSIDE, FIRST, FINE = 'outside', 'first', 'fine'


@dataclass(frozen=True)
class OpCall:
    """One call of an operator.

    Args:
        op (str): Name, such as 'aten.mm'.
        stage (str): 'first' or 'fine' in the backbone, 'outside' elsewhere.
        module (str): Qualified name of the innermost module around it.
        kind (str): Class of that module.
        weight (str): Parameter of the model that it used, '' for none.
        cost (int | None): MACs, or operations of a scan; None if the
            operator has no formula.
        elements (int): Values that it wrote.
    """

    op: str
    stage: str
    module: str
    kind: str
    weight: str
    cost: int | None
    elements: int


class OpTrace(TorchDispatchMode):
    """Notes the operators of a model as they run; use it in a ``with``.

    Weights are recognised by their storage, so that a product written as a
    function (``F.linear(x, layer.weight)``) is still known to be its
    layer's. What is computed from one parameter alone (a cast, a flip,
    ``-exp(A_log)``) counts as that parameter. Autograd must be off.

    A stage begins where images are embedded, or where a wrapped backbone is
    called: the fine one at the second time in a forward of the backbone.

    Args:
        model (nn.Module): The model that will run, on any device; ``meta``
            works where no value decides what runs.
        backbone (nn.Module | None): Its backbone; None for ``model`` itself.
            Defaults to None.
    """

    def __init__(
        self, model: nn.Module, backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.calls: list[OpCall] = []
        self._backbone = model if backbone is None else backbone
        self._owners = {
            _storage(param): name for name, param in model.named_parameters()
        }
        # A storage that lives on cannot give its address to another one.
        self._alive: list[Tensor] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._inside = set(self._backbone.modules())
        self._embedding: nn.Module | None = None
        if isinstance(self._backbone, TokenBackbone):
            self._embedding = self._backbone.patch_embed
        elif isinstance(self._backbone, ExitOnly):
            self._embedding = self._backbone.backbone
        self._modules: list[nn.Module] = []
        # Modules of the backbone that run, and stages that have begun.
        self._depth = self._begun = 0

    def __enter__(self) -> OpTrace:
        # On no module itself: a mixer runs its parts otherwise if they have
        # hooks.
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def _enter(self, module: nn.Module, *_: object) -> None:
        if module not in self._names:
            return
        self._modules.append(module)
        self._depth += module in self._inside
        if module is self._backbone:
            self._begun = 0
        elif module is self._embedding:
            self._begun += 1

    def _leave(self, module: nn.Module, *_: object) -> None:
        if module in self._names:
            self._modules.pop()
            self._depth -= module in self._inside

    def _stage(self) -> str:
        if not self._depth:
            return OUTSIDE
        return FINE if self._begun > 1 else FIRST

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operator and note it."""
        result = func(*args, **(kwargs or {}))
        outputs = list(tensors_in(result))
        # A view computes nothing.
        if not outputs or func.is_view or func.__name__ == 'detach':
            return result
        inputs = list(tensors_in((args, kwargs)))
        name = op_name(func)
        if name != 'aten._unsafe_view':
            self._note(name, args, inputs, outputs)
        self._inherit(inputs, outputs)
        return result

    def _note(
        self,
        name: str,
        args: tuple[Any, ...],
        inputs: list[Tensor],
        outputs: list[Tensor],
    ) -> None:
        around = self._modules[-1] if self._modules else None
        formula = formula_of(name, around)
        module, kind = '', ''
        if around is not None:
            module = self._names[around]
            kind = type(around).__name__
        owners = (self._owners.get(_storage(x)) for x in inputs)
        self.calls.append(
            OpCall(
                name,
                self._stage(),
                module,
                kind,
                next(filter(None, owners), ''),
                None if formula is None else formula(args, outputs[0]),
                sum(x.numel() for x in outputs),
            )
        )

    def _inherit(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        owners = {self._owners.get(_storage(x)) for x in inputs}
        owner = owners.pop() if len(owners) == 1 else None
        if owner is None:
            return
        self._alive += outputs
        self._owners.update((_storage(x), owner) for x in outputs)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Find the tensors in nested sequences and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
