"""Fits of curves that no model here describes, made by rules of their own."""

import dataclasses

import numpy as np
import pytest

from toolkit.fitting import PulseTrains, fit_csv, fit_device, model_names

LOW, SPAN = 1e-6, 9e-6
RISES = {
    "exponential": lambda t: (1 - np.exp(-3 * t)) / (1 - np.exp(-3)),
    "logistic": lambda t: 1 / (1 + np.exp(-8 * (t - 0.5))),
    "power": lambda t: t**0.4,
    "stretched": lambda t: 1 - np.exp(-((3 * t) ** 0.6)),
    "saturated": lambda t: np.minimum(1, 4 * t),
    "linear": lambda t: t,
    "constant": lambda t: 0 * t + 0.5,
}


def trains(
    rise="exponential",
    *,
    n=50,
    cells=1,
    cycles=1,
    read=0.0,
    pulse=0.0,
    apart=0.0,
    abrupt=False,
    outliers=False,
    drift=0.0,
    scale=1.0,
    up_only=False,
    uneven=False,
):
    rng, columns = np.random.default_rng(0), []
    up = RISES[rise](np.linspace(0, 1, n + 1))
    down = up.max() + up.min() - up[1:]
    state = np.concatenate([up, np.full(n, up[0]) if abrupt else down])
    sign = np.concatenate([[0], np.ones(n), -np.ones(n)])
    stop = n + 1 if up_only else n + 1 + n // 3 if uneven else 2 * n + 1
    for cell in range(cells):
        factor = 1 + apart * rng.normal()
        for cycle in range(cycles):
            walked = state + np.cumsum(pulse * rng.normal(size=2 * n + 1))
            walked += drift * np.arange(2 * n + 1)
            readings = (LOW + SPAN * walked * factor) * (1 + read * rng.normal(size=2 * n + 1))
            if outliers:
                readings[rng.integers(0, stop, 3)] *= 3
            readings = scale * (np.abs(readings) + 1e-12)
            places = np.full(stop, cell), np.full(stop, cycle), np.arange(stop)
            columns.append(np.stack([*places, sign[:stop], readings[:stop]]))
    names = ("cell", "cycle", "pulse", "polarity", "conductance")
    table = dict(zip(names, np.concatenate(columns, axis=1).tolist(), strict=True))
    return PulseTrains.from_table(table)


CASES = {
    "read noise": {"read": 0.01},
    "no noise": {},
    "pulse noise": {"pulse": 0.01},
    "many": {"read": 0.01, "cells": 5, "cycles": 5, "n": 20},
    "logistic": {"rise": "logistic", "read": 0.01},
    "power": {"rise": "power", "read": 0.005},
    "stretched": {"rise": "stretched", "pulse": 0.005},
    "saturated": {"rise": "saturated", "read": 0.01},
    "saturated, no noise": {"rise": "saturated"},
    "constant": {"rise": "constant"},
    "constant with noise": {"rise": "constant", "read": 0.01},
    "abrupt": {"abrupt": True, "read": 0.01},
    "abrupt, no noise": {"abrupt": True},
    "two levels": {"n": 2, "read": 0.01},
    "three levels": {"n": 3},
    "outliers": {"outliers": True, "read": 0.01},
    "drift": {"drift": 0.002, "read": 0.01},
    "uneven": {"uneven": True, "read": 0.01},
    "cells apart": {"cells": 4, "apart": 0.4, "read": 0.01},
    "potentiation only": {"up_only": True, "read": 0.01},
    "large": {"scale": 1e4, "read": 0.01},
    "small": {"scale": 1e-9, "read": 0.01},
}


# Also fitted to a given range: they stay inside it, are far from its ends, or leave it.
GIVEN = ("read noise", "many", "constant", "abrupt", "outliers", "drift", "two levels", "small")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", model_names())
@pytest.mark.parametrize(
    ("case", "is_given"),
    [(case, False) for case in CASES] + [(case, True) for case in GIVEN],
)
def test_a_device_with_its_errors_or_one_sentence(case, is_given, model):
    scale = CASES[case].get("scale", 1.0)
    bounds = (LOW * scale, (LOW + SPAN) * scale) if is_given else None
    try:
        fit = fit_device(trains(**CASES[case]), model=model, conductance_range=bounds)
    except ValueError as error:
        assert len(str(error)) < 400 and "\n" not in str(error)
        return
    assert np.isfinite(list(fit.parameters.values())).all()
    assert all(np.isfinite(error) and error >= 0.0 for error in fit.errors.values())
    assert fit.device.levels_up > 0.0 and fit.device.levels_down > 0.0


def test_the_plainest_table_gives_its_levels():
    device = fit_device(trains(read=0.01)).device
    assert device.levels_up == pytest.approx(50, rel=0.1)
    assert device.levels_down == pytest.approx(50, rel=0.1)
    assert (device.g_min, device.g_max) == pytest.approx((LOW, LOW + SPAN), rel=0.03)


def test_read_noise_is_told_from_pulse_noise():
    given = (LOW, LOW + SPAN)
    fit = fit_device(trains(read=0.01, cells=20, cycles=20, n=20), conductance_range=given)
    assert fit.device.read_noise == pytest.approx(0.01, rel=0.05)
    assert fit.device.cycle_to_cycle < 0.001
    assert fit.device.levels_up == pytest.approx(20, rel=0.02)


def test_a_field_beyond_what_csv_takes_is_one_sentence(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "cell,cycle,pulse,polarity,conductance\n" + '"' + "x" * 200_000 + '",1,0,0,1e-6'
    )
    with pytest.raises(ValueError, match="is no table"):
        fit_csv(path)


@pytest.mark.parametrize("model", model_names())
def test_swapped_polarities_are_said(model):
    right = trains(read=0.01)
    swapped = dataclasses.replace(right, polarity=-right.polarity)
    with pytest.raises(ValueError, match="pulses do not move these cells"):
        fit_device(swapped, model=model)
