"""The rules that a method is composed of."""
