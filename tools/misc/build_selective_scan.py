"""Build mamba-ssm's selective_scan_cuda alone, for the card at hand."""

from mmscope.cli.build_selective_scan import main

if __name__ == '__main__':
    main()
