"""Training: layers on crossbars, data sets, and the live experiment."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from toolkit.training.data.dataset import Dataset
from toolkit.training.data.datasets import dataset_names, load_dataset
from toolkit.training.data.synthetic import gaussians, spirals
from toolkit.training.layers.adapters import Adapter
from toolkit.training.layers.capture import release_weights
from toolkit.training.layers.convert import to_crossbar, to_digital
from toolkit.training.layers.convolution import Geometry
from toolkit.training.layers.guards import crossbar_layers
from toolkit.training.layers.modules import CrossbarConv2d, CrossbarLinear, block_samples
from toolkit.training.layers.optimiser import LowRankSGD
from toolkit.training.layers.registry import register_adapter
from toolkit.training.models import make_model, model_names

if TYPE_CHECKING:
    from toolkit.training.experiment.experiment import Experiment, stored_devices
    from toolkit.training.experiment.run import DivergenceError
    from toolkit.training.experiment.settings import Settings
    from toolkit.training.experiment.sweep import Plan, read_plan, sweep
    from toolkit.training.landscape import loss_landscape

# loaded on first use: layers alone need neither xarray nor param
_LAZY = {
    "DivergenceError": "experiment.run",
    "Experiment": "experiment.experiment",
    "Plan": "experiment.sweep",
    "Settings": "experiment.settings",
    "loss_landscape": "landscape",
    "read_plan": "experiment.sweep",
    "stored_devices": "experiment.experiment",
    "sweep": "experiment.sweep",
}

__all__ = [
    "Adapter",
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
    "loss_landscape",
    "make_model",
    "model_names",
    "read_plan",
    "register_adapter",
    "release_weights",
    "spirals",
    "stored_devices",
    "sweep",
    "to_crossbar",
    "to_digital",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
