"""Time what importing each public part costs, in one checkout or several."""

from mmscope.cli.import_times import main

if __name__ == '__main__':
    main()
