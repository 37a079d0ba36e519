"""See MambaScope exit at once, then train one: minutes on a CPU."""

from mmscope.cli.demo import main

if __name__ == '__main__':
    main()
