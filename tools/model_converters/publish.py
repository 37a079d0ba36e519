"""Make a folder for others of a checkpoint: weights, config, what it is."""

from mmscope.cli.publish import main

if __name__ == '__main__':
    main()
