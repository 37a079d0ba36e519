"""Time the first results of somebody who clones, or installs a wheel."""

from mmscope.cli.first_minutes import main

if __name__ == '__main__':
    main()
