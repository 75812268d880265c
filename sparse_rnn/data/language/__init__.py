"""Corpora for next-word prediction."""
