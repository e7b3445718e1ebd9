"""Low-rank gradient estimators: streams of (errors, activations) in, rank-k factors out.

Tensor maths only. Every estimator approximates ``errors.T @ activations``, the matrix that
autograd leaves in ``weight.grad``, and none but the documented dense baselines forms it.
"""

from toolkit.lowrank.estimator import Estimator
from toolkit.lowrank.factors import LowRank
from toolkit.lowrank.feedback import FeedbackPCA
from toolkit.lowrank.full import FullGradient
from toolkit.lowrank.lrt import LRT
from toolkit.lowrank.nmf import NMF
from toolkit.lowrank.power import PowerIteration
from toolkit.lowrank.registry import (
    ESTIMATORS,
    estimator_knobs,
    estimator_names,
    make_estimator,
)
from toolkit.lowrank.sbe import SBE
from toolkit.lowrank.sbpca import SBPCA
from toolkit.lowrank.spectrum import (
    captured_energy,
    optimal_energy,
    principal_angles,
    relative_error,
    singular_values,
    stable_rank,
)
from toolkit.lowrank.svd import TruncatedSVD

__all__ = [
    "ESTIMATORS",
    "LRT",
    "NMF",
    "SBE",
    "SBPCA",
    "Estimator",
    "FeedbackPCA",
    "FullGradient",
    "LowRank",
    "PowerIteration",
    "TruncatedSVD",
    "captured_energy",
    "estimator_knobs",
    "estimator_names",
    "make_estimator",
    "optimal_energy",
    "principal_angles",
    "relative_error",
    "singular_values",
    "stable_rank",
]
