"""Sparse topologies and the rules that change them."""
