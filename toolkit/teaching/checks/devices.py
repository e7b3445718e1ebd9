"""Exercises of notebook 10: one pulse, the symmetry point, noise, and which model fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

from toolkit.crossbar import Device, PowStep
from toolkit.fitting import PulseTrains
from toolkit.teaching.exercises import Wrong, close, exercise, wrong

After = Callable[[float, int, float, float], float]


@exercise("devices.after")
def after(answer: After) -> str | Wrong:
    """The state after some pulses up: ``T + (x - T) exp(-n u / N)``."""
    cases = [*product((0.0, 0.3, 0.8), (1, 7), (0.5, 2.0, -1.5), (20.0, 97.0))]
    found = [float(answer(*case)) for case in cases]
    right = [_after(*case) for case in cases]
    if close(found, right):
        return "Where A = N/u is known as the curve's parameter, this is NeuroSim's own formula."
    if close(found, [x + n / levels for x, n, _, levels in cases]):
        return wrong("That is the straight line: steps of 1/N, wherever the cell is. Where is u?")
    if close(found, [_after(0.0, n, u, levels) for _, n, u, levels in cases]):
        return wrong("That is right from x = 0 alone. Where does the cell start in your formula?")
    if close(found, [_after(x, 1, u, levels) for x, _, u, levels in cases]):
        return wrong("That is one pulse. What do n of them do to the distance from T?")
    return wrong("Look at the distance to T: each pulse multiplies it by one and the same factor.")


@exercise("devices.symmetry_point")
def symmetry_point(answer: Callable[[float, float], float]) -> str | Wrong:
    """Where ``a (1 - x) = b x``."""
    cases = [(0.1, 0.1), (0.1, 0.3), (0.05, 0.01)]
    found = [float(answer(*case)) for case in cases]
    if close(found, [a / (a + b) for a, b in cases]):
        return "The stronger the pulses up, the higher the point. Equal strengths put it at 1/2."
    if close(found, [b / (a + b) for a, b in cases]):
        return wrong("At large a, pulses up win: should the point then lie high or low?")
    if close(found, [0.5] * len(cases)):
        return wrong("That holds where a = b. At which x are the two step sizes equal otherwise?")
    if close(found, [a / b for a, b in cases]):
        return wrong("A ratio of a to b may pass 1, but x may not. Solve for x once more.")
    return wrong("Set the size of the step up equal to the size of the step down; solve for x.")


@exercise("devices.pulses_needed")
def pulses_needed(answer: float) -> str | Wrong:
    """The least n with ``n / N >= c sqrt(n)``."""
    ratio = 0.035 * 97
    if close(answer, math.ceil(ratio**2)):
        return "One pulse has 3.4 times more noise than change."
    if close(answer, ratio) or close(answer, math.ceil(ratio)):
        return wrong("That is the noise of one pulse in steps. It grows with n, too, but slower.")
    if close(answer, ratio**2):
        return wrong("Nearly: pulses are whole. From which whole number on is it so?")
    if close(answer, math.floor(ratio**2)):
        return wrong("At that number the noise is still a little larger than the change.")
    return wrong("Set n/N against c √n and divide both sides by √n.")


@exercise("devices.mystery")
def mystery(answer: str) -> str | Wrong:
    """The formula that :func:`mystery_trains` was made by."""
    if answer == "pow-step":
        return (
            "Its steps shrink with the square of the distance to the end: not a straight line, "
            "which shows as a wave in the residuals of the other two."
        )
    if answer == "constant-step":
        return wrong("Look at the residuals of this one: do they scatter about 0 all along?")
    if answer == "linear-step":
        return wrong("Better than a constant step. Is there another with a smaller rms?")
    if answer in ("jump-table", "neurosim", "soft-bounds"):
        return wrong("Only the three formulas of the question are possible. Compare their rms.")
    return wrong("Answer with a name, in quotes: 'constant-step', 'linear-step' or 'pow-step'.")


def mystery_trains() -> PulseTrains:
    """Three invented cells of 1 to 10 uS whose steps shrink with a power of the room left."""
    device = Device(
        name="mystery",
        g_min=1e-6,
        g_max=1e-5,
        levels_up=40,
        levels_down=40,
        cycle_to_cycle=0.003,
        response=PowStep(gamma_up=2.0, gamma_down=2.0),
    )
    return PulseTrains.simulated(device, cells=3, cycles=2, up=120, down=120, seed=5)


def _after(x: float, pulses: int, u: float, levels: float) -> float:
    target = 1.0 / (1.0 - math.exp(-u))
    return target + (x - target) * math.exp(-pulses * u / levels)
