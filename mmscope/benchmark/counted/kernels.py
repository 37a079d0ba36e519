"""What the compiler makes of the Triton kernels, without a GPU.

The launches that an operator would do are recorded on meta tensors; each is
compiled for a GPU that need not be there, and its instructions are read from
the disassembly. Triton brings all tools for it.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmscope.benchmark.counted.disassembly import (
    CHUNK,
    count_loops,
    instructions_of,
    jumps_of,
    kind_of,
    run_tool,
)
from mmscope.benchmark.counted.predictions import WARP, Kernel

POINTERS = {
    torch.float32: '*fp32',
    torch.bfloat16: '*bf16',
    torch.float16: '*fp16',
    torch.int32: '*i32',
}


@dataclass(frozen=True)
class Launch:
    """A launch that was recorded.

    ``kernel`` is a ``triton.jit`` function, ``grid`` its programs, ``args``
    tensors (meta), numbers and None, ``constants`` what it is compiled for
    and the compiler's options.
    """

    kernel: object
    grid: tuple[int, ...]
    args: tuple[object, ...]
    constants: dict[str, object]

    @property
    def name(self) -> str:
        """Name of the kernel."""
        return self.kernel.fn.__name__

    @property
    def key(self) -> str:
        """All that decides which machine code a launch runs."""
        dtypes = [
            POINTERS.get(x.dtype) if isinstance(x, Tensor) else x == 1
            for x in self.args
        ]
        flags = {k: v for k, v in self.constants.items() if v is not None}
        return f'{self.name} {sorted(flags.items())} {dtypes}'


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect the launches of ``mmscope.ops.triton_kernels``; none starts."""
    from mmscope.ops import triton_kernels

    launches: list[Launch] = []

    def record(kernel: object, grid: tuple, *args, **constants) -> None:
        launches.append(Launch(kernel, grid, args, constants))

    modules = [
        x
        for x in vars(triton_kernels).values()
        if inspect.ismodule(x) and callable(getattr(x, 'launch', None))
    ]
    before = [module.launch for module in modules]
    try:
        for module in modules:
            module.launch = record
        yield launches
    finally:
        for module, function in zip(modules, before, strict=True):
            module.launch = function


def build(launch: Launch, capability: int) -> object:
    """Compile a launch's kernel for a GPU that need not be there.

    Its memory counts as aligned to 16 bytes; ``asm['cubin']`` of what Triton
    returns is machine code.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmscope.ops.triton_kernels.launch import options_for

    constants = options_for(capability, launch.constants)
    names = list(inspect.signature(launch.kernel.fn).parameters)
    fixed = {k: v for k, v in constants.items() if k in names}
    options = {k: v for k, v in constants.items() if k not in names}
    first = next(x for x in launch.args if isinstance(x, Tensor))
    signature, hints = {}, {}
    for place, (name, x) in enumerate(zip(names, launch.args, strict=False)):
        value = first if x is None else x
        is_tensor = isinstance(value, Tensor)
        if not is_tensor and value == 1 and name != 'one':
            fixed[name] = 1
            continue
        signature[name] = POINTERS[value.dtype] if is_tensor else 'i32'
        if is_tensor or value % 16 == 0:
            hints[(place,)] = [['tt.divisibility', 16]]
    signature |= dict.fromkeys(fixed, 'constexpr')
    return triton.compile(
        ASTSource(
            launch.kernel, {n: signature[n] for n in names}, fixed, hints
        ),
        target=GPUTarget('cuda', capability, WARP),
        options=options,
    )


def _per_token(launch: Launch, found: list[str], jumps: list) -> Counter:
    """Count a warp's instructions for a token, its channels, a direction."""
    constants = launch.constants
    if 'TOKENS' in constants:  # a convolution has no loop over tokens
        total = Counter(kind_of(line) for line in found)
        tokens = constants['TOKENS'] / constants['num_warps']
        return _scaled(total, tokens * constants['DIRECTIONS'])
    module = inspect.getmodule(launch.kernel.fn)
    is_scan = launch.name == 'scan_kernel'
    group = getattr(module, 'GROUP', 1) if is_scan else 1
    group = getattr(group, 'value', group)
    counts = count_loops(found, jumps, group / CHUNK)
    if launch.name == 'scan_backward_kernel':  # over a chunk, and back
        return sum((c for c in counts if c['exponentials'] > 2), Counter())
    largest = max(counts, key=lambda c: sum(c.values()))
    return _scaled(largest, group)


def _scaled(counts: Counter, by: float) -> Counter:
    return Counter({k: v / by for k, v in counts.items()})


def count(launch: Launch, capability: int) -> Kernel:
    """Compile a launch's kernel for a GPU such as 80, 90 or 100, and count."""
    built = build(launch, capability)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'kernel.cubin'
        path.write_bytes(built.asm['cubin'])
        usage = run_tool('cuobjdump', '-res-usage', str(path))
        found, labels = instructions_of(run_tool('nvdisasm', '-c', str(path)))
    pattern = r'REG:(\d+) STACK:(\d+)'
    registers, stack = map(int, re.search(pattern, usage).groups())
    jumps = jumps_of(found, labels)
    per_token = {}
    if launch.name != 'carry_kernel':  # once a span, not a token
        per_token = dict(sorted(_per_token(launch, found, jumps).items()))
    return Kernel(
        kernel=launch.name,
        capability=capability,
        channels=launch.constants['CHANNELS'],
        registers=registers,
        stack=stack,
        # Of a launch: the binary itself names no more than a reserve.
        shared=built.metadata.shared,
        per_token=per_token,
    )


def unique(launches: list[Launch]) -> dict[str, Launch]:
    """Return one launch of each machine code, by :attr:`Launch.key`."""
    return {launch.key: launch for launch in reversed(launches)}
