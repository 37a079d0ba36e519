"""Compile every kernel for GPUs that need not be there; print what came out.

A line a kernel: name, compute capability, instructions that exchange values
between threads, declarations of spilled registers. Run it as a script, without
the interpreter; ``--all`` adds capabilities, directions and sizes of one.
"""

from __future__ import annotations

import inspect
import re
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmscope.ops import triton_kernels
from mmscope.ops.triton_kernels import backward, conv, launch, scan

POINTERS = {torch.float32: '*fp32', torch.bfloat16: '*bf16'}


def compile_for(capability, kernel, args, num_warps, constants):
    first = next(x for x in args if isinstance(x, torch.Tensor))
    signature, fixed, hints = {}, dict(constants), {}
    names = list(inspect.signature(kernel.fn).parameters)
    for place, (name, value) in enumerate(zip(names, args, strict=False)):
        value = first if value is None else value
        if isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
        elif value == 1 and name != 'one':
            fixed[name] = value
        else:
            signature[name] = 'i32'
        # As a launch finds it for aligned memory and for such sizes.
        if isinstance(value, torch.Tensor) or value % 16 == 0:
            hints[(place,)] = [['tt.divisibility', 16]]
    signature |= dict.fromkeys(fixed, 'constexpr')
    signature = {name: signature[name] for name in names}
    return triton.compile(
        ASTSource(kernel, signature, fixed, hints),
        target=GPUTarget('cuda', capability, 32),
        options=dict(num_warps=num_warps),
    )


def printing_launch(capability):
    def launch(kernel, grid, *args, num_warps, **constants):
        binary = compile_for(capability, kernel, args, num_warps, constants)
        ptx = binary.asm['ptx']
        exchanges = len(re.findall(r'\bshfl\.|\bst\.shared', ptx))
        spilled = len(re.findall(r'\.local ', ptx))
        print(kernel.fn.__name__, capability, exchanges, spilled, flush=True)

    return launch


def run_scan(directions, batch, seqlen, dim, d_state):
    def draw(*shape, dtype=torch.float32):
        return torch.rand(shape, dtype=dtype)

    half = dict(dtype=torch.bfloat16)
    u = draw(directions, batch, seqlen, dim, **half)
    wide = draw(directions, batch, seqlen, 2 * d_state, **half)
    gate = draw(batch, seqlen, 2 * dim, **half)[..., dim:]
    channels = draw(directions, dim)
    inputs = triton_kernels.ScanInputs(
        *(u, u, draw(directions, dim, d_state)),
        *(*wide.chunk(2, -1), channels, gate, channels, True, False),
    )
    if directions == 1:
        _, states = triton_kernels.scan_forward(inputs, True)
    else:
        *_, states = triton_kernels.both_directions_forward(inputs, True, True)
    return inputs, u[0], states


def run_conv(directions, batch, seqlen, dim, width):
    x = torch.rand(batch, seqlen, 2 * dim, dtype=torch.bfloat16)[..., :dim]
    taps, bias = (
        torch.rand(directions, dim, width),
        torch.rand(directions, dim),
    )
    out = triton_kernels.conv_forward(x, taps, bias, True, False)
    triton_kernels.conv_backward(out, x, taps, bias, True, False)


def main(everything):
    sizes = [(2, 2 * launch.SPAN, 384, 16)]
    for capability in (90, 80) if everything else (90,):
        for module in (scan, backward, conv):
            module.launch = printing_launch(capability)
        for batch, seqlen, dim, d_state in sizes + [(1,) * 4] * everything:
            run_scan(2, batch, seqlen, dim, d_state)
            launch.ENOUGH_PROGRAMS = 10**9
            cut = run_scan(1, batch, seqlen, dim, d_state)
            triton_kernels.scan_backward(*cut)
            launch.ENOUGH_PROGRAMS = 0
            run_conv(2, batch, seqlen, dim, 4)
            if everything:
                triton_kernels.scan_backward(
                    *run_scan(1, batch, seqlen, dim, d_state)
                )
                triton_kernels.scan_backward(
                    *run_scan(2, batch, seqlen, dim, d_state)
                )
                run_conv(1, batch, seqlen, dim, 4)


if __name__ == '__main__':
    launch.ENOUGH_PROGRAMS = 0
    main('--all' in sys.argv)
