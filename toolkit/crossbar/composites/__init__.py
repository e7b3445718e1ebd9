"""Matrices held by several crossbars, or by one with a memory beside it."""
