"""Figures: curves, gates, distances, and how they look."""
