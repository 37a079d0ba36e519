"""Hold out the last images of every class folder as a validation split."""

from mmscope.cli.hold_out import main

if __name__ == '__main__':
    main()
