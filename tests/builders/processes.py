"""What became of other processes."""

import time
from pathlib import Path


def is_gone(pid):
    """Tell whether a process, if it is still listed, is but a zombie."""
    for _ in range(100):
        try:
            state = Path(f'/proc/{pid}/stat').read_text().split()[2]
        except FileNotFoundError:
            return True
        if state == 'Z':
            return True
        time.sleep(0.1)
    return False
