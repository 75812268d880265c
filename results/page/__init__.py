"""One HTML page with all tables, figures and runs."""
