"""Where a run's rows go: metrics.jsonl, W&B, the terminal."""
