"""Imported once, by the process from which :class:`.process.LiveProcess` forks its own.

What is loaded here, inner loops included, is shared by all of them.
"""

import gc

import torch

from toolkit.compiling import compile_loops
from toolkit.training.experiment.experiment import Experiment

torch.set_num_threads(1)
compile_loops()
Experiment().results()  # imports what it needs; no step, as autograd's threads do not fork
gc.collect()
gc.freeze()  # the collector would touch all pages, and so copy them
