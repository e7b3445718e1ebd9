"""Which nonidealities a device has."""

import pytest

from toolkit.training import Experiment, Settings
from toolkit.training.settings import LABELS, NONIDEALITIES


def test_a_nonlinearity_label_is_refused_where_the_response_has_none():
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        Settings(device="EcRam", nonlinearity_up=2.0)
    run = Experiment(device="Ag:a-Si", nonlinearity_up=1.0)
    with pytest.raises(ValueError, match="nonlinearity_up does not apply to EcRam"):
        run.device = "EcRam"
    assert run.device == "Ag:a-Si" and run.nonlinearity_up == 1.0
    run.change(device="EcRam", nonlinearity_up=None)
    assert run.device == "EcRam"


def test_only_nonidealities_that_apply_are_in_force():
    assert set(Settings(device="Ag:a-Si").nonidealities()) == set(NONIDEALITIES)
    assert set(Settings(device="EcRam").nonidealities()) == set(NONIDEALITIES) - set(LABELS)
    assert Settings(device="digital").nonidealities() == {}
