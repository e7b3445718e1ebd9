"""Imported once, by the process from which :class:`.process.LiveProcess` forks its own."""

from toolkit.training.live.process import warm

warm()
