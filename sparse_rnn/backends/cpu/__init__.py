"""Compute that skips inactive weights, on the CPU: values of active entries only, products in C++."""
