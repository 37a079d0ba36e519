"""Every operator that a model runs, with its place in the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from mmscope.analysis.formulas import formula_of, op_name

OUTSIDE, FIRST, FINE = 'outside', 'first', 'fine'


@dataclass(frozen=True)
class OpCall:
    """One call of an operator.

    Args:
        op (str): Name, such as 'aten.mm'.
        stage (str): 'first' or 'fine' (``forward_fine``) in the backbone,
            'outside' elsewhere.
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
        self._model = model
        self._backbone = model if backbone is None else backbone
        self._owners = {
            _storage(param): name for name, param in model.named_parameters()
        }
        # A storage that lives on cannot give its address to another one.
        self._alive: list[Tensor] = []
        self._modules: list[tuple[str, nn.Module]] = []
        self._depth = {FIRST: 0, FINE: 0}
        self._handles: list[Any] = []

    def __enter__(self) -> OpTrace:
        inside = set(map(id, self._backbone.modules()))
        for name, module in self._model.named_modules():
            self._follow(name, module, id(module) in inside)
        if hasattr(self._backbone, 'forward_fine'):
            self._mark_fine_stage()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        vars(self._backbone).pop('forward_fine', None)
        super().__exit__(*error)

    def _follow(self, name: str, module: nn.Module, inside: bool) -> None:
        def enter(*_: object) -> None:
            self._modules.append((name, module))
            self._depth[FIRST] += inside

        def leave(*_: object) -> None:
            self._modules.pop()
            self._depth[FIRST] -= inside

        self._handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave),
        ]

    def _mark_fine_stage(self) -> None:
        run = self._backbone.forward_fine

        def forward_fine(*args: object, **kwargs: object) -> object:
            self._depth[FINE] += 1
            try:
                return run(*args, **kwargs)
            finally:
                self._depth[FINE] -= 1

        self._backbone.forward_fine = forward_fine

    def _stage(self) -> str:
        if self._depth[FINE]:
            return FINE
        return FIRST if self._depth[FIRST] else OUTSIDE

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: tuple = (),
        kwargs: dict | None = None,
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
        self, name: str, args: tuple, inputs: list, outputs: list
    ) -> None:
        formula = formula_of(name)
        module, kind = '', ''
        if self._modules:
            module, innermost = self._modules[-1]
            kind = type(innermost).__name__
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
        if len(owners) != 1 or None in owners:
            return
        (owner,) = owners
        self._alive += outputs
        self._owners.update((_storage(x), owner) for x in outputs)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Find the tensors in nested sequences and mappings.

    Args:
        value (Any): Arguments or result of an operator.

    Yields:
        Tensor: Each tensor, in order.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
