"""Measure the memory of a training step with and without ``with_cp``."""

from mmscope.cli.step_memory import main

if __name__ == '__main__':
    main()
