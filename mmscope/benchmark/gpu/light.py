"""Programs that need the operators alone, started without the hosts.

Importing ``mmscope`` imports what is installed of OpenMMLab: seconds, and
minutes under a tool that watches memory.
"""

from __future__ import annotations

import sys

from mmscope.benchmark.setting import ROOT

# A package that has its modules and none of what its __init__ imports.
CODE = """
import importlib, sys, types
name, *sys.argv[1:] = sys.argv[1:]
package = types.ModuleType('mmscope')
package.__path__ = [{folder!r}]
sys.modules['mmscope'] = package
importlib.import_module(name).main()
"""


def python_without_hosts(module: str, *arguments: str) -> list[str]:
    """Return the command line of a module's ``main``.

    Args:
        module (str): Of this package; must not need mmengine.
        *arguments (str): Its command line.

    Returns:
        list[str]: To be run in a process.
    """
    code = CODE.format(folder=str(ROOT / 'mmscope'))
    return [sys.executable, '-c', code, module, *arguments]
