"""Files of runs: records, checkpoints, event logs and locks."""
