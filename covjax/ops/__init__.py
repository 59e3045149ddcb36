"""Pure functions of arrays: wavelets, pooling, convolution."""
