"""What is learned: next words, or the class of a text."""
