"""A run with live settings: knobs, recorder, snapshots, checkpoints and sweeps."""
