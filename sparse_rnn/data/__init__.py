"""Data sets: where they come from, how text becomes numbers, and how it is cut into batches."""
