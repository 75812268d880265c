"""Optimizers, and what happens to them after each validation."""
