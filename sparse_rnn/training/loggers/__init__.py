"""Where a run's rows go: metrics.jsonl, the terminal, W&B, TensorBoard, MLflow."""
