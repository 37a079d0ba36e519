"""Make a folder for others of a checkpoint."""

from mmscope.cli.publish import main

if __name__ == '__main__':
    main()
