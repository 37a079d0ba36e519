"""Time ViM of two checkouts in turns: what a change was worth."""

from mmscope.cli.compare_speed import main

if __name__ == '__main__':
    main()
