"""Write a small synthetic data set in the exact layout of ADE20K."""

from mmscope.cli.make_demo_scenes import main

if __name__ == '__main__':
    main()
