"""Compile the inner loops before somebody waits for them.

numba keeps what it has compiled beside the source or, where that cannot be written, in the user's
cache folder (NUMBA_CACHE_DIR names another one).
"""

from __future__ import annotations

import torch

from toolkit.crossbar import Coincidence, Crossbar, WholePulses, device_names, get_device
from toolkit.lowrank import SBPCA, FullGradient, estimator_names, make_estimator


def compile_loops(dtype: torch.dtype = torch.float32) -> None:
    """Run every estimator, device and pulse coding once, so that their loops are compiled.

    Takes about half a minute after an installation; from then on the loops are loaded.
    """
    generator = torch.Generator().manual_seed(0)
    errors, activations = (
        torch.randn(16, size, generator=generator, dtype=dtype) for size in (12, 20)
    )
    estimators = [make_estimator(name) for name in estimator_names()]
    for estimator in (*estimators, SBPCA(core="full")):  # which has a loop of its own
        estimator.update(errors, activations)
    update = FullGradient().update(errors[:2], activations[:2])
    for name in device_names():
        for coding in (WholePulses(), Coincidence()):
            weights = torch.zeros(12, 20, dtype=dtype)
            array = Crossbar.from_weights(weights, device=get_device(name), coding=coding)
            array.read(activations)
            array.read_transposed(errors)
            for scheme in coding.schemes:
                array.apply(update, learning_rate=0.1, scheme=scheme)
