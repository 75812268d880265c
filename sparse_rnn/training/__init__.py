"""Training one run: the loop, its state, and what surrounds it."""
