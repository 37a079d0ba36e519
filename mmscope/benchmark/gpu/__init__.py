"""The first minutes on a GPU: everything proved and measured by one command.

``tools/benchmark.py --gpu-first`` starts :mod:`supervisor`, which starts a
:mod:`worker` for the parts in :mod:`parts` and one more whenever that dies.
"""
