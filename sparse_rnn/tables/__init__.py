"""The papers' tables and figures: declared once, expanded into runs; launch and results both read them."""
