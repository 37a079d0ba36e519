"""The code behind the tools."""

from importlib import import_module
from pathlib import Path


def load_tool(path):
    """Import what a tool runs, by its path below ``tools`` or its name."""
    return import_module(f'mmscope.cli.{Path(path).stem}')
