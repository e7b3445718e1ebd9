"""Layers on crossbars: capture of errors and activations, im2col, conversion, and the optimiser."""
