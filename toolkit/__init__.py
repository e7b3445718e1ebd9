"""SBPCA Toolkit: low-rank training of in-memory (crossbar) neural networks, live.

The parts can be imported separately, so ``import toolkit`` is quick:

- :mod:`toolkit.lowrank`   streams of (errors, activations) in, rank-k factors out
- :mod:`toolkit.crossbar`  conductances, device responses, pulsed updates, reads
- :mod:`toolkit.training`  layers on crossbars, data sets, the live :class:`Experiment`
- :mod:`toolkit.results`   results as xarray, and their files
- :mod:`toolkit.plots`     HoloViews figures made from results
"""

__version__ = "0.1.0"
