"""What the Triton kernels cost a GPU, counted without one."""
