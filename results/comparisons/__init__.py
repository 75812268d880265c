"""Two rows compared over their seeds: one pair, or the claims of the papers."""
