"""Write what was measured on a GPU into the page on GPUs."""

from mmscope.cli.gpu_page import main

if __name__ == '__main__':
    main()
