"""Score a checkpoint with a config of any of the three hosts."""

from mmscope.cli.test import main

if __name__ == '__main__':
    main()
