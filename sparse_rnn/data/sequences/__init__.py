"""Sequences that are no text: pixels, and problems that are drawn."""
