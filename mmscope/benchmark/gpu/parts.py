"""The parts of a first run on a GPU, in order, and how long each may take."""

from __future__ import annotations

from mmscope.benchmark.gpu.machine import machine_steps
from mmscope.benchmark.gpu.models import gated_steps, model_steps
from mmscope.benchmark.gpu.op_grid import op_steps
from mmscope.benchmark.gpu.parity import parity_steps
from mmscope.benchmark.gpu.parity_huge import huge_steps
from mmscope.benchmark.gpu.sanitizer import sanitizer_steps
from mmscope.benchmark.gpu.steps import Part
from mmscope.benchmark.gpu.training import training_steps
from mmscope.benchmark.gpu.warm_cache import warm_steps

MACHINE, PARITY, OPS, MODELS = 'machine', 'parity', 'ops', 'models'
TRAINING, GATED, HUGE = 'training', 'gated', 'huge'
SANITIZER, COMPILE = 'sanitizer', 'compile'

# What must be known comes first: a run that is cut off has lost the last
# parts. Together the budgets leave half a minute for imports.
PARTS = {
    part.name: part
    for part in (
        Part(MACHINE, 'machine and versions', 10.0, machine_steps),
        Part(COMPILE, 'compilation of the kernels', 60.0, warm_steps),
        Part(PARITY, 'kernels against the reference', 60.0, parity_steps),
        Part(OPS, 'operators', 50.0, op_steps),
        Part(TRAINING, 'a step of training', 35.0, training_steps),
        Part(GATED, 'what exits save, by batch', 35.0, gated_steps),
        Part(MODELS, 'models', 85.0, model_steps),
        Part(HUGE, 'more than 2 ** 31 elements', 30.0, huge_steps),
        Part(SANITIZER, 'accesses to memory', 75.0, sanitizer_steps),
    )
}
