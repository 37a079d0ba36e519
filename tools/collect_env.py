"""Print what is installed, what works, and what fixes the rest."""

from mmscope.cli.collect_env import main

if __name__ == '__main__':
    main()
