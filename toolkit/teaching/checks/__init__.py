"""Checks of the notebooks' exercises: one module for every topic, found by its name."""
