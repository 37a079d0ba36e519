"""Show where a MambaScope model looks twice, and what it finds."""

from mmscope.cli.show_scope import main

if __name__ == '__main__':
    main()
