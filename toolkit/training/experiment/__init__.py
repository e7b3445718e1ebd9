"""A run with live settings: knobs, recorder, checkpoints and sweeps."""
