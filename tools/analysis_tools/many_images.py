"""Measure the engine for many images."""

from mmscope.cli.many_images import main

if __name__ == '__main__':
    main()
