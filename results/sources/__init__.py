"""Where runs are read from: W&B's logs, its server, the runs' own records."""
