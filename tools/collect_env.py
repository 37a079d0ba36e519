"""Print what is installed, what works, and what fixes the rest."""

import runpy
from pathlib import Path

# By its path: the report is wanted most where mmscope cannot be imported.
CODE = Path(__file__).resolve().parents[1] / 'mmscope/cli/collect_env.py'

if __name__ == '__main__':
    runpy.run_path(str(CODE))['main']()
