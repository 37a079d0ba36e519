"""Write what the Triton kernels cost a GPU, which need not be there."""

from mmscope.cli.gpu_kernels import main

if __name__ == '__main__':
    main()
