"""Corpora, where they come from, and how they are cut into batches."""

from sparse_rnn.data import datasets  # noqa: F401
