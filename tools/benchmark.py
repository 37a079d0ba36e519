"""Measure speed and memory: MambaScope against ViM and DeiT."""

from mmscope.cli.benchmark import main

if __name__ == '__main__':
    main()
