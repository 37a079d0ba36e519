"""Print the parameters and the cost of each stage of a model."""

from mmscope.cli.get_flops import main

if __name__ == '__main__':
    main()
