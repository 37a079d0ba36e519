"""Train MambaScope, let it exit early, and look at it: five minutes on CPU."""

from mmscope.cli.demo import main

if __name__ == '__main__':
    main()
