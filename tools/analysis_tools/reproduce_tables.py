"""Print the paper's tables with our numbers beside them."""

from mmscope.cli.reproduce_tables import main

if __name__ == '__main__':
    main()
