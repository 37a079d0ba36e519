"""Write the tables of a page on speed from the files of measurements."""

from mmscope.cli.speed_page import main

if __name__ == '__main__':
    main()
