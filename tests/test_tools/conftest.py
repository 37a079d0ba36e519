from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.tools import load_tool as load_tool

from mmscope.datasets.demo_writer import write_scenes

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """Nine training and five validation scenes of 72 x 96 pixels."""
    return write_scenes(
        tmp_path_factory.mktemp('scenes'), train=9, val=5, height=72, width=96
    )


@pytest.fixture(scope='session')
def run_tool(scenes):
    """Run a tool as users do, in a process of its own, from elsewhere."""

    def run(*args, cwd=None, launcher=(), **environ):
        return subprocess.run(
            [sys.executable, *launcher, *map(str, args)],
            cwd=cwd or scenes,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'MMSCOPE_ADE20K': str(scenes),
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
