"""Training: layers on crossbars, data sets, and the live experiment."""

from toolkit.training.datasets import Dataset, dataset_names, load_dataset
from toolkit.training.experiment import DivergenceError, Experiment
from toolkit.training.settings import Settings

__all__ = [
    "Dataset",
    "DivergenceError",
    "Experiment",
    "Settings",
    "dataset_names",
    "load_dataset",
]
