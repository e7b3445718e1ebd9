"""Synthetic data sets in the plane, drawn from a seed, small enough to see what a network learns.

Inputs are centred, in -1..1; in 0..1 the same networks needed several times the epochs or failed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from toolkit.checks import as_generator, check_count, check_real
from toolkit.training.data.dataset import Dataset


def gaussians(
    *, classes: int = 3, samples: int = 1200, spread: float = 0.2, seed: int | torch.Generator = 0
) -> Dataset:
    """Round clouds, one per class, on a circle; a straight line separates any two of them.

    Class c of C is normal about 1/2 (cos a, sin a), a = 2 pi c / C, with standard deviation
    ``spread`` in both directions; samples beyond -1..1 are moved to the edge. With two classes, no
    classifier is right more often than Phi(1 / (2 spread)), where Phi is the normal distribution.

    Raises
    ------
    ValueError
        If ``classes`` is not 2 to 4, ``samples`` is below 4 per class, or ``spread`` is negative
        or not finite.
    """
    generator, labels = _begin(classes, samples, spread, seed)
    angles = 2 * math.pi / classes * labels
    centres = torch.stack([angles.cos(), angles.sin()], dim=1) / 2
    return _dataset("gaussians", centres, labels, spread, generator)


def spirals(
    *,
    classes: int = 2,
    samples: int = 1200,
    spread: float = 0.02,
    turns: float = 1.0,
    seed: int | torch.Generator = 0,
) -> Dataset:
    """Interleaved spiral arms, one per class, which no straight line separates.

    Arm c of C is r (cos a, sin a) with a = 2 pi (c / C + ``turns`` r) and r uniform in 0.1..0.9,
    and normal noise of standard deviation ``spread`` in both directions.

    Raises
    ------
    ValueError
        If ``classes`` is not 2 to 4, ``samples`` is below 4 per class, or ``spread`` or ``turns``
        is negative or not finite.
    """
    check_real("turns", turns, 0.0)
    generator, labels = _begin(classes, samples, spread, seed)
    radius = 0.1 + 0.8 * torch.rand(samples, generator=generator)
    angles = 2 * math.pi * (labels / classes + turns * radius)
    arms = radius[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)
    return _dataset("spirals", arms, labels, spread, generator)


def _begin(
    classes: int, samples: int, spread: float, seed: int | torch.Generator
) -> tuple[torch.Generator, Tensor]:
    """Check the common arguments; return the generator and labels, classes in equal number."""
    check_count("classes", classes, 2, 4)
    check_count("samples", samples, 4 * classes)
    check_real("spread", spread, 0.0)
    return as_generator(seed), torch.arange(samples) % classes


def _dataset(
    name: str, places: Tensor, labels: Tensor, spread: float, generator: torch.Generator
) -> Dataset:
    """Add the noise; the first quarter is for testing, as classes alternate."""
    inputs = (places + spread * torch.randn(places.shape, generator=generator)).clamp(-1, 1)
    test = len(labels) // 4
    return Dataset.from_arrays(
        inputs[test:], labels[test:], inputs[:test], labels[:test], name=name
    )
