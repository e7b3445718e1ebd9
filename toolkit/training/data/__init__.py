"""Data sets by name, from files, synthetic or your own."""
