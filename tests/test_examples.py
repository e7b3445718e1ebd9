"""Every public name that design and README promise has an example in its docstring, and it runs."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from toolkit.training import Experiment

PUBLIC = {
    "lowrank": (
        "LowRank SBPCA FeedbackPCA SBE TruncatedSVD LRT NMF PowerIteration FullGradient "
        "make_estimator estimator_names singular_values captured_energy principal_angles"
    ),
    "crossbar": "Crossbar Device device_names get_device line_currents",
    "fitting": "fit_csv",
    "training": "Experiment to_crossbar to_digital LowRankSGD load_dataset sweep",
    "results": "open_results save_results",
}


@pytest.mark.parametrize(
    ("package", "name"), [(key, name) for key, names in PUBLIC.items() for name in names.split()]
)
def test_the_example_runs(
    package: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = import_module(f"toolkit.{package}")
    public = {each: getattr(module, each) for each in module.__all__}
    names = public | {"torch": torch, "nn": nn, "Experiment": Experiment}
    text = public[name].__doc__
    example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert example.examples, f"{name} has no example"
    failed = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=failed.append)
    assert not failed, "".join(failed)
