"""One small run for all tests of results: two devices, two methods, a few events."""

import pytest
import xarray as xr

from toolkit.training import Experiment


def make_run() -> Experiment:
    run = Experiment(hidden=[16], record_every=3, seed=0, rank=3, device="Ag:a-Si")
    for _ in range(4):
        run.step()
    run.change(rank=12, batch_size=128)
    run.device = "digital"
    for _ in run.steps(epochs=1):
        pass
    return run


@pytest.fixture(scope="session")
def tree() -> xr.DataTree:
    return make_run().results()


@pytest.fixture(scope="session")
def empty_tree() -> xr.DataTree:
    """A run that has not trained a step."""
    return Experiment(device="FeFET").results()
