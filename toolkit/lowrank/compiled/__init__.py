"""Inner loops of the estimators, compiled for a CPU and for a GPU."""
