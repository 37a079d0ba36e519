"""Convert a released checkpoint of ViM, its kin or DeiT to mmscope."""

from mmscope.cli.vim_to_mmscope import main

if __name__ == '__main__':
    main()
