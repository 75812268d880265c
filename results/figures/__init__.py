"""Figures: the data of each, how it is drawn, and the style that all share."""
