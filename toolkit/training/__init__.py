"""Training: layers on crossbars, data sets, and the live experiment."""

from toolkit.training.dataset import Dataset
from toolkit.training.datasets import dataset_names, load_dataset
from toolkit.training.experiment import DivergenceError, Experiment
from toolkit.training.models import make_model, model_names
from toolkit.training.settings import Settings
from toolkit.training.toys import gaussians, spirals

__all__ = [
    "Dataset",
    "DivergenceError",
    "Experiment",
    "Settings",
    "dataset_names",
    "gaussians",
    "load_dataset",
    "make_model",
    "model_names",
    "spirals",
]
