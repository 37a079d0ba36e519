"""Convert a released ViM, VideoMamba or DyVM checkpoint to mmscope."""

from mmscope.cli.vim_to_mmscope import main

if __name__ == '__main__':
    main()
