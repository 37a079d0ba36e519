"""The code behind the tools, and what they draw."""

from importlib import import_module
from pathlib import Path

from PIL import Image


def load_tool(path):
    """Import what a tool runs, by its path below ``tools`` or its name."""
    return import_module(f'mmscope.cli.{Path(path).stem}')


def colours(picture):
    """RGB of all pixels of a picture; a blank one has a single colour."""
    with Image.open(picture) as image:
        rgb = image.convert('RGB')
        return {colour for _, colour in rgb.getcolors(rgb.width * rgb.height)}
