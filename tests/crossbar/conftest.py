"""What the tests of crossbars share."""

import pytest

from toolkit.crossbar.cells import Cells


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """Both ways to pulse affine cells: the loops for CPUs, and torch, as on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(Cells, "is_compiled", False)
