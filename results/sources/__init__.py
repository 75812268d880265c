"""Sources of logs: W&B's offline logs, its server, a copy of a project, MLflow, and the runs' own records."""
