"""Train a config of any of the three hosts."""

from mmscope.cli.train import main

if __name__ == '__main__':
    main()
