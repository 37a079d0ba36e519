"""Turn sweeps of several models into a Markdown report and a picture."""

from mmscope.cli.compare_runs import main

if __name__ == '__main__':
    main()
