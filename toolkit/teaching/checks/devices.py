"""Exercises of notebook 10: one pulse, the symmetry point, noise, and which model fits."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from toolkit.crossbar import Device, PowStep
from toolkit.fitting import EXAMPLE_CSV, PulseTrains
from toolkit.teaching.exercises import Function, Wrong, close, exercise, judge, outputs, wrong


@exercise("devices.after")
def after(answer: Function) -> str | Wrong:
    """The state after some pulses up, all within the range: ``T + (x - T) exp(-n u / P_max)``."""
    cases = [*product((0.0, 0.3, 0.6), (1, 3), (0.5, 2.0, -1.5), (20.0, 97.0))]
    x, n, u, levels = np.array(cases).T
    target, decay = 1 / (1 - np.exp(-u)), np.exp(-u / levels)
    expected = target + (x - target) * decay**n
    return judge(
        outputs(answer, cases),
        (expected, "With A = P_max/u as the curve's parameter, this is NeuroSim's own formula."),
        (
            x + n / levels,
            "That is the straight line: steps of 1/P_max, whatever the state. Where is u?",
        ),
        (target - target * decay**n, "Right from x = 0 alone. Where does your cell start?"),
        (target + (x - target) * decay, "That is one pulse. What do n do to the distance from T?"),
        (expected - x, "That is the change. Where is the cell after it?"),
        (1 + (x - 1) * decay**n, "Each pulse covers a share of the distance to T, not to 1."),
        otherwise="Look at the distance to T: each pulse multiplies it by the same factor.",
    )


@exercise("devices.symmetry_point")
def symmetry_point(answer: Function) -> str | Wrong:
    """Where ``a (1 - x) = b x``."""
    cases = [(0.1, 0.1), (0.1, 0.3), (0.05, 0.01)]
    a, b = np.array(cases).T
    return judge(
        outputs(answer, cases),
        (a / (a + b), "The stronger the pulses up, the higher the point; at equal strengths, 1/2."),
        (b / (a + b), "At large a, pulses up win: should the point then be high or low?"),
        (0 * a + 0.5, "That holds where a = b. At which x are the two steps equal otherwise?"),
        (a / b, "A ratio of a to b may pass 1, but x may not. Solve for x again."),
        otherwise="Set the size of the step up equal to the size of the step down; solve for x.",
    )


@exercise("devices.pulses_needed")
def pulses_needed(answer: float) -> str | Wrong:
    """The least n with ``n / P_max >= c sqrt(n)``."""
    ratio = 0.035 * 97
    if close(answer, ratio**2, relative=0.001):
        answer = ratio**2  # rounded by the reader
    return judge(
        answer,
        (math.ceil(ratio**2), "One pulse has 3.4 times more noise than change."),
        (ratio, math.ceil(ratio), "That is the noise of one pulse, in steps. It grows with n too."),
        (ratio**2, "Nearly: pulses are whole. From which whole number on does it hold?"),
        (math.floor(ratio**2), "There the noise is still a little larger than the change."),
        otherwise="Set n/P_max against c √n and divide both sides by √n.",
    )


@exercise("devices.mystery")
def mystery(answer: str) -> str | Wrong:
    """The formula that :func:`mystery_trains` was made with."""
    names = "Answer with a name, in quotes: 'constant-step', 'linear-step' or 'pow-step'."
    if not isinstance(answer, str):
        return wrong(names)
    answer = answer.strip().lower().replace("_", "-").replace(" ", "-")
    if answer == "pow-step":
        return (
            "Its steps shrink with the square of the distance to the end. That is not a straight "
            "line, which shows as a wave in the residuals of the other two."
        )
    hints = {
        "constant-step": "Look at the residuals of this one: do they scatter about 0 everywhere?",
        "linear-step": "Its residuals still show a wave. Is there another with a smaller rms?",
    } | dict.fromkeys(
        ("jump-table", "neurosim", "soft-bounds"),
        "Only the three formulas of the question are possible. Compare their rms.",
    )
    return wrong(hints.get(answer, names))


def instrument_table() -> bytes:
    """The synthetic example as an instrument would write it: currents, in Windows-1252."""
    trains = PulseTrains.from_csv(EXAMPLE_CSV)
    volts = {1: "1,2", -1: "-1,5", 0: "0"}
    lines = ["Parameter analyser, SN 4711; synthetic data", "Operator: Müller", ""]
    lines += ["Device;Vpulse;Vread;Iread", ";V;V;µA"]
    for cell, polarity, siemens in zip(
        trains.cell, trains.polarity, trains.conductance, strict=True
    ):
        current = f"{1e6 * 0.1 * siemens:.6f}".replace(".", ",")
        lines.append(f"D{cell};{volts[int(polarity)]};0,1;{current}")
    return "\r\n".join([*lines, "", "End of measurement"]).encode("cp1252")


def mystery_trains() -> PulseTrains:
    """Return trains of three invented cells, 1 to 10 uS; steps are a power of the room left."""
    device = Device(
        name="mystery",
        g_min=1e-6,
        g_max=1e-5,
        levels_up=40,
        levels_down=40,
        cycle_to_cycle=0.0005,
        response=PowStep(gamma_up=2.0, gamma_down=2.0),
    )
    return PulseTrains.simulated(device, cells=3, cycles=2, up=120, down=120, seed=5)
