"""What computes with sparse weights: masks on dense tensors, or kernels for active entries alone."""
