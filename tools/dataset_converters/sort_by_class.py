"""Sort a flat folder of images into class folders, by a list."""

from mmscope.cli.sort_by_class import main

if __name__ == '__main__':
    main()
