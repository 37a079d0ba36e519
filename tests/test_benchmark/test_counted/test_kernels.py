from __future__ import annotations

import os

import pytest
import torch
from builders.gpu_launches import (
    ALL_VARIANTS,
    Variants,
    count_all,
    why_unknown,
)

from mmscope.benchmark.counted.cases import scan_arguments, scan_launches
from mmscope.benchmark.counted.disassembly import count_loops, kind_of
from mmscope.ops import triton_backend

if reason := triton_backend.probe():
    pytest.skip(reason, allow_module_level=True)
if triton_backend._INTERPRETED:
    pytest.skip('the interpreter compiles nothing', allow_module_level=True)

CAPABILITIES = (80, 90)
# Blackwell. To save time only what a bfloat16 model of two directions runs,
# without limits on instructions: that they fit is what is asked.
NEWEST, OF_NEWEST = 100, Variants((torch.bfloat16,), (2,))
# What a program may have on the smaller of the GPUs.
MOST_SHARED = 48 << 10
# Registers of a thread, and instructions of a warp for one token of 32
# channels in one direction, by kernel and channels of a program. The widest
# program is what large batches run; narrow ones spread a channel over
# threads, for small batches that leave a GPU idle anyway.
LIMITS = {
    ('scan_kernel', 64): (128, 140),
    ('scan_kernel', 32): (128, 180),
    # On an A100, whose shared memory takes a value a store: up to 202.
    ('scan_kernel', 16): (128, 205),
    ('scan_kernel', 8): (128, 350),
    ('span_kernel', 32): (128, 150),
    ('span_kernel', 16): (128, 160),
    ('span_kernel', 8): (128, 280),
    ('scan_backward_kernel', 32): (255, 800),
    ('scan_backward_kernel', 16): (255, 1000),
    ('scan_backward_kernel', 8): (255, 1400),
    ('conv_kernel', 64): (160, 40),
    ('conv_backward_kernel', 64): (160, 90),
}
# The goal, for the mean of the two directions' launches.
GOAL = 130


@pytest.fixture(scope='module')
def counted():
    """Compile every kernel with every set of constants, in some processes."""
    workers = min(os.cpu_count() or 1, 4)
    wanted = dict.fromkeys(CAPABILITIES, ALL_VARIANTS)
    if not why_unknown(NEWEST):
        wanted[NEWEST] = OF_NEWEST
    return count_all(wanted, workers)


@pytest.mark.slow
def test_every_kernel_compiles_without_spills(counted):
    assert {x.kernel for _, x in counted} == {
        'scan_kernel',
        'span_kernel',
        'carry_kernel',
        'scan_backward_kernel',
        'conv_kernel',
        'conv_backward_kernel',
    }
    for launch, x in counted:
        assert x.stack == 0, (x, launch.key)
        assert x.shared <= MOST_SHARED, (x, launch.key)


@pytest.mark.slow
def test_kernels_of_the_newest_gpus_are_among_the_compiled(counted):
    if reason := why_unknown(NEWEST):
        pytest.skip(reason)
    found = [x for _, x in counted if x.capability == NEWEST]
    assert {x.channels for x in found} == {8, 16, 32, 64}
    assert len({x.kernel for x in found}) == 6


def test_an_assembler_that_is_too_old_is_named():
    assert why_unknown(90) is None
    reason = why_unknown(990)
    assert reason.endswith('of this Triton does not know sm_990')


@pytest.mark.slow
def test_instructions_and_registers_stay_below_their_limits(counted):
    for launch, x in counted:
        if x.per_token and x.capability in CAPABILITIES:
            registers, most = LIMITS[x.kernel, x.channels]
            assert x.registers <= registers, (x, launch.key)
            assert x.total <= most, (x, launch.key)


def is_plain(launch):
    """Tell whether it is one of the launches of a bfloat16 mixer's forward."""
    flags = launch.constants
    extra = ('SCORED', 'SAVES', 'IS_CUT')
    return (
        launch.name == 'scan_kernel'
        and flags['PACKED']
        and flags['ADDS'] == flags['HAS_Z']
        and not any(flags[name] for name in extra)
    )


@pytest.mark.slow
@pytest.mark.parametrize('channels', [64, 32])
def test_both_directions_of_a_batch_reach_the_goal(counted, channels):
    for capability in CAPABILITIES:
        found = [
            x.total
            for launch, x in counted
            if is_plain(launch)
            and (x.capability, x.channels) == (capability, channels)
        ]
        assert len(found) == 2
        assert sum(found) / 2 <= GOAL


@pytest.mark.slow
def test_counts_hold_what_a_token_needs(counted):
    # 16 exponentials of the states and at least one of the step size; a loop
    # that the compiler unrolled would show a multiple.
    for launch, x in counted:
        if x.kernel in ('scan_kernel', 'span_kernel'):
            exact = x.per_token['exponentials']
            states = 16 * x.channels / 32
            threads = max(x.channels / 32, 1)
            assert states < exact <= states + 3 * threads, launch.key


@pytest.mark.slow
def test_a_channel_of_32_or_more_stays_in_its_thread(counted):
    for launch, x in counted:
        scans = ('scan_kernel', 'span_kernel')
        if x.kernel not in scans or x.channels < 32:
            continue
        # The largest channel of a warp takes one; what is read of B and C
        # goes once through shared memory, four values a load.
        shares = x.channels == 32 and launch.constants['PACKED']
        is_scan = launch.name == 'scan_kernel'
        most = 10 * (shares and is_scan)
        most += bool(launch.constants.get('SCORED'))
        assert x.per_token.get('exchanges', 0) <= most, launch.key


def test_recorded_launches_are_not_started_and_the_launcher_comes_back():
    from mmscope.ops.triton_kernels import scan

    before = scan.launch
    launches = scan_launches(scan_arguments(2, 5))
    assert [x.name for x in launches] == ['scan_kernel', 'scan_kernel']
    assert scan.launch is before


def test_kinds_of_instructions():
    assert kind_of('@!P0 FFMA R1, R2, R3, R4') == 'multiply-adds'
    assert kind_of('SHFL.BFLY PT, R1, R2, 0x10, 0x1f') == 'exchanges'
    assert kind_of('SHF.L.U32 R1, R2, 0x10, RZ') == 'conversions'
    assert kind_of('LDG.E.128 R4, desc[UR4][R2.64]') == 'loads'
    assert kind_of('MOV R1, R2') == 'other'


def test_a_state_that_is_stored_once_a_chunk_counts_as_such():
    body = ['FFMA R1', '@P0 BRA `(.L_x_1)', *['STG R1'] * 16, 'FFMA R2']
    jumps = [(1, 18), (19, 0)]
    found = [*body, '@P1 BRA `(.L_x_0)']
    (counts,) = count_loops(found, jumps, rare=0.25)
    assert counts['stores'] == 4
    assert counts['multiply-adds'] == 2
