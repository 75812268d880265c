"""What is done with a trained run: load, evaluate, generate, export, extract."""
