"""Show which tokens a model keeps or merges, and what it finds."""

from mmscope.cli.show_reduction import main

if __name__ == '__main__':
    main()
