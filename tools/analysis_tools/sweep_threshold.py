"""Evaluate every exit threshold in ONE pass over a data set."""

from mmscope.cli.sweep_threshold import main

if __name__ == '__main__':
    main()
