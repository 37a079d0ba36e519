"""Print what sums over channels on the matrix unit lose, without a GPU."""

from mmscope.cli.tf32_sums import main

if __name__ == '__main__':
    main()
