"""Time what importing each public part costs."""

from mmscope.cli.import_times import main

if __name__ == '__main__':
    main()
