"""Find the compiled CPU kernels of the running torch."""

from __future__ import annotations

import importlib
import os

import torch

from . import build

BUILD_COMMAND = 'pip install --no-build-isolation -e .'
ISA_VARIABLE = 'MMSCOPE_CPU_ISA'
# The kernels that came last: an extension without them is an older build.
NEWEST_KERNELS = ('bidirectional_inner_cpu', 'add_rms_norm_cpu')


def extension_name() -> str:
    """Return the name of the extension module that fits the running torch.

    The name holds torch's version, so that environments with different
    versions can share one checkout.
    """
    major, minor = torch.__version__.split('.')[:2]
    return f'mmscope.ops._C_torch{major}{minor}'


def load() -> str | None:
    """Load the compiled kernels.

    Returns:
        str | None: None if they are loaded, else the reason and the command
        that fixes it.

    Raises:
        ValueError: If the environment variable ``MMSCOPE_CPU_ISA`` names an
            instruction set that this machine or build lacks.
    """
    name = extension_name()
    fix = f'; build it in the root of the checkout: {BUILD_COMMAND}'
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        # A second library with the same operators would end the process.
        loaded = has_kernel(NEWEST_KERNELS[0])
        reason = 'another is loaded' if loaded else build.load_compiled()
        if reason:
            return f'the compiled extension {name} is not there: {reason}{fix}'
    except (ImportError, OSError) as error:
        return (
            f'the compiled extension {name} cannot be loaded ({error}); it '
            f'was built against another torch or C++ library{fix}'
        )
    if not all(map(has_kernel, NEWEST_KERNELS)):
        return f'the compiled extension {name} is of an older mmscope{fix}'
    if wanted := os.environ.get(ISA_VARIABLE):
        torch.ops.mmscope.set_cpu_isa(wanted)
    return None


def has_kernel(op: str) -> bool:
    """Tell whether an operator of mmscope has a kernel for the CPU."""
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(
            f'mmscope::{op}', 'CPU'
        )
    except RuntimeError:  # nobody has heard of it
        return False


# Once, at import: torch.compile cannot trace through an import.
_WHY_NOT_LOADED = load()


def why_not_compiled() -> str | None:
    """Return None if the compiled kernels are loaded, else the reason."""
    return _WHY_NOT_LOADED


def cpu_isas() -> tuple[str, ...]:
    """Return the kernels' instruction sets that run here, best first."""
    if why_not_compiled():
        return ()
    return tuple(torch.ops.mmscope.cpu_isas())


def cpu_isa() -> str | None:
    """Return the instruction set in use, None without compiled kernels."""
    return None if why_not_compiled() else torch.ops.mmscope.cpu_isa()


def set_cpu_isa(name: str) -> None:
    """Choose the instruction set of the CPU kernels.

    Args:
        name (str): 'avx512', 'avx2' or 'portable'.

    Raises:
        RuntimeError: If there are no compiled kernels.
        ValueError: If this machine or build lacks the instruction set.
    """
    if reason := why_not_compiled():
        raise RuntimeError(f'set_cpu_isa({name!r}): {reason}')
    torch.ops.mmscope.set_cpu_isa(name)
