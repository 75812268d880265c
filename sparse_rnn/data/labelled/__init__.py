"""Labelled texts for classification."""
