"""Training: layers on crossbars, data sets, and the live experiment."""

from toolkit.training.capture import release_weights
from toolkit.training.convert import to_crossbar, to_digital
from toolkit.training.convolution import Geometry
from toolkit.training.dataset import Dataset
from toolkit.training.datasets import dataset_names, load_dataset
from toolkit.training.experiment import DivergenceError, Experiment
from toolkit.training.guards import crossbar_layers
from toolkit.training.layers import CrossbarConv2d, CrossbarLinear, block_samples
from toolkit.training.models import make_model, model_names
from toolkit.training.optimiser import LowRankSGD
from toolkit.training.settings import Settings
from toolkit.training.sweeps import Plan, read_plan, sweep
from toolkit.training.toys import gaussians, spirals

__all__ = [
    "CrossbarConv2d",
    "CrossbarLinear",
    "Dataset",
    "DivergenceError",
    "Experiment",
    "Geometry",
    "LowRankSGD",
    "Plan",
    "Settings",
    "block_samples",
    "crossbar_layers",
    "dataset_names",
    "gaussians",
    "load_dataset",
    "make_model",
    "model_names",
    "read_plan",
    "release_weights",
    "spirals",
    "sweep",
    "to_crossbar",
    "to_digital",
]
