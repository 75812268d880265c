"""Differentiable functions of sparse weights, each over a whole window."""
