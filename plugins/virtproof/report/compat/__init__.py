"""What each kernel works on, as tests have seen it: the matrix of images, kernels and checks."""
