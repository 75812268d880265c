"""Triton kernels for CUDA devices, and the captured step."""
