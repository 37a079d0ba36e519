"""Test hypotheses about runs on their sweeps, image by image."""

from mmscope.cli.paired_test import main

if __name__ == '__main__':
    main()
