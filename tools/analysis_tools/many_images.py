"""Measure what the engine for many images wins, and that it loses nothing."""

from mmscope.cli.many_images import main

if __name__ == '__main__':
    main()
