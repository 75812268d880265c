"""One HTML page of everything."""
