"""Forwards of ViM by the package of another checkout, one for each line read.

A program of its own, started by :mod:`mmscope.benchmark.checkouts`: two
versions of a package cannot live in one process. It uses only what every
version has.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Answer every line of stdin with a forward and an empty line."""
    checkout, arch, batch, threads = sys.argv[1:]
    # In place of this file's own folder.
    sys.path[0] = checkout
    answers, sys.stdout = sys.stdout, sys.stderr

    import torch

    from mmscope.models import VisionMamba
    from mmscope.ops import why_unavailable
    from mmscope.runtime.memory import keep_freed_memory

    if reason := why_unavailable('cpu'):
        sys.exit(f'{checkout}: {reason}')
    keep_freed_memory()
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    model = VisionMamba(arch=arch, img_size=224).eval()
    imgs = torch.randn(int(batch), 3, 224, 224)
    with torch.inference_mode():
        for _ in sys.stdin:
            model(imgs)
            print(file=answers, flush=True)


if __name__ == '__main__':
    main()
