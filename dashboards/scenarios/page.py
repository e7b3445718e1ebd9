"""The Scenarios page: settings worth a look, each with a paragraph and a link that runs them.

A scenario is one entry of ``SCENARIOS``. One run opens in the Playground, several in the Race.
``{a20}`` in a text is the test accuracy of the first run after 20 epochs, as
``python -m benchmarks.scenarios --write`` measured it over five seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.settings_text import query_of
from dashboards.app.site import Text
from dashboards.race.page import query_of_runs, run_names
from toolkit.plots.elements import RUN_STYLES
from toolkit.training import Settings

EPOCHS = ("5", "10", "20")
Knobs = Mapping[str, Any]
_DASHES = {"solid": "none", "dashed": "6 4", "dotdash": "2 4 6 4", "dotted": "2 4"}
MEASURED = Path(__file__).with_name("measured.json")  # written by benchmarks/scenarios.py


@dataclass(frozen=True)
class Scenario:
    """One entry: what it shows, what to do, the settings of each run, and how long it takes."""

    title: str
    text: str
    watch: str
    runs: tuple[Knobs, ...]
    minutes: int = 2
    level: str = "basic"

    @property
    def address(self) -> str:
        """The link that opens it, relative to the site."""
        if len(self.runs) == 1:
            return site.link("playground", query_of(self.runs[0]))
        return site.link("race", query_of_runs(self.runs))

    def measured(self) -> list[dict[str, float]]:
        """Each run's mean test accuracy after 5, 10 and 20 epochs, its pulses and products."""
        return _measured().get(self.title, [])

    def words(self, text: str) -> str:
        """``text`` with the measured accuracies in place."""
        found = {
            f"{letter}{epochs}": f"{run[epochs]:.0%}"
            for letter, run in zip("abcd", self.measured(), strict=False)
            for epochs in EPOCHS
        }
        return text.format_map(found)


@cache
def _measured() -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = json.loads(MEASURED.read_text("utf-8"))
    return found


SCENARIOS = (
    Scenario(
        "Rank 1 crawls until you raise it",
        "One outer product a batch follows only the strongest direction of the gradient. After "
        "five passes over the digits rank 1 has {a5} of the test set right, after ten {a10}.",
        "Start, wait for five epochs, then move Rank from 1 to 4. The loss falls at once: the "
        "estimator keeps what it has learned and adds directions.",
        ({"rank": 1},),
    ),
    Scenario(
        "Rank 4 is enough",
        "The gradient of this layer is a 128 × 65 matrix, yet four outer products a batch train as "
        "well as the whole of it: {a20} against {b20} after 20 epochs, with a seventh of the "
        "memory.",
        "The curves by samples lie on each other. Lower Rank of run A until they part.",
        ({}, {"method": "sgd"}),
    ),
    Scenario(
        "The best approximation does not train best",
        "The truncated SVD is by definition nearest to every batch's gradient. What it drops, it "
        "drops in every batch; SBPCA's history lets the lesser directions through over time, and "
        "FeedbackPCA carries over what it has not written.",
        "At rank 1, after 20 epochs: SVD {a20}, SBPCA {b20}, FeedbackPCA {c20}.",
        ({"method": "svd", "rank": 1}, {"rank": 1}, {"method": "feedback", "rank": 1}),
    ),
    Scenario(
        "Small batches, many updates",
        "A batch of 8 updates the weights 64 times as often as one of 512. At equal samples it is "
        "far ahead ({a5} against {c5} after five epochs), at equal updates it is not.",
        "Switch 'Compare along' from samples to steps.",
        (
            {"batch_size": 8, "learning_rate": 0.1},
            {},
            {"batch_size": 512},
        ),
    ),
    Scenario(
        "Two spirals",
        "Two inputs, two classes, and a boundary that winds: small enough to see every weight. "
        "Rank 4 solves it in some ten epochs ({a10}).",
        "Choose layer2 and look at its weights (under Views); then try rank 1.",
        ({"dataset": "spirals", "hidden": [32, 32], "batch_size": 32, "learning_rate": 0.5},),
    ),
    Scenario(
        "Writing every sample wears cells out",
        "On EpiRAM cells the full gradient, written sample by sample, and SBPCA at rank 4 end at "
        "about the same accuracy ({b20} and {a20}). Sample by sample takes nearly twice "
        "the pulses and 16 times the outer products.",
        "Compare along pulses: at equal pulses SBPCA is ahead.",
        ({"device": "EpiRAM"}, {"device": "EpiRAM", "method": "sgd"}),
    ),
    Scenario(
        "A coarse, noisy cell likes averages",
        "ReRamSB cells make large, uneven steps. Written sample by sample they reach {c20} after "
        "20 epochs; rank 4 averages the batch first and reaches {b20}, rank 10 {a20}.",
        "The order at equal samples: rank 10, rank 4, every sample.",
        (
            {"device": "ReRamSB", "rank": 10},
            {"device": "ReRamSB"},
            {"device": "ReRamSB", "method": "sgd"},
        ),
    ),
    Scenario(
        "One after the other, or their sum",
        "Rank-sequential writing lets outer products cancel each other in pulses that both cost "
        "and disturb. Forming the sum first saves half of the pulses, and on a strongly "
        "curved cell the accuracy after ten epochs is {b10} against {a10}.",
        "Pulses of the two runs, and which of them falls back later: curvature pulls weights back "
        "that have come near their limits.",
        tuple(
            {
                "device": "Ag:a-Si",
                "nonlinearity_up": 6.0,
                "nonlinearity_down": -6.0,
                "rank": 10,
                "scheme": scheme,
            }
            for scheme in ("rank-sequential", "rank-sum")
        ),
        level="advanced",
        minutes=4,
    ),
    Scenario(
        "NMF spends fewer pulses",
        "Non-negative factors of either sign cannot cancel each other. On AlOx/HfO2 cells NMF "
        "writes four fifths of the pulses of SBPCA and reaches {a20} against {b20}; it is slower "
        "to compute.",
        "Compare along pulses.",
        ({"device": "AlOx/HfO2", "method": "nmf"}, {"device": "AlOx/HfO2"}),
        level="advanced",
        minutes=4,
    ),
    Scenario(
        "Too few levels",
        "With 8 levels between its extremes a cell cannot make the small steps that the end of "
        "training needs: stochastic rounding carries it to {a10} in ten epochs, then the weights "
        "wander ({a20} after twenty). The same cell with its own 97 levels does better.",
        "Wait for accuracy to fall, then lower the learning rate: each pulse stays as large as "
        "before, but there are fewer of them.",
        ({"device": "Ag:a-Si", "levels": 8},),
    ),
    Scenario(
        "The noise cliff",
        "Cycle-to-cycle noise adds up with every pulse. At 5% of the range a pulse training still "
        "reaches {b20}, at 10% only {c20}: the noise of writing has overtaken the writing.",
        "How far C stays behind. Then choose EpiRAM in the Playground and raise Cycle-to-cycle "
        "(More knobs) while it trains.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "cycle_to_cycle": 0.05},
            {"device": "EpiRAM", "cycle_to_cycle": 0.1},
        ),
    ),
    Scenario(
        "Training around dead cells",
        "Without faults the network reaches {a20}, with a tenth of the cells stuck {b20}, with two "
        "fifths {c20}: backpropagation through the array sees the faults and uses the other cells.",
        "How near to each other they end. In the Playground, raise Stuck low and Stuck high (More "
        "knobs) in mid-run: accuracy drops, and comes back.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "stuck_low": 0.05, "stuck_high": 0.05},
            {"device": "EpiRAM", "stuck_low": 0.2, "stuck_high": 0.2},
        ),
        level="advanced",
        minutes=4,
    ),
    Scenario(
        "How many bits must a converter have?",
        "With 8 bits at both ends the network reaches {a20}, with 4 bits {b20}, with 3 bits {c20}: "
        "the errors of the last layer no longer fit between two steps.",
        "In the Playground, lower the bits of DAC and ADC (More knobs) one at a time: which hurts "
        "first?",
        (
            {"device": "EpiRAM", "dac_bits": 8, "adc_bits": 8},
            {"device": "EpiRAM", "dac_bits": 4, "adc_bits": 4},
            {"device": "EpiRAM", "dac_bits": 3, "adc_bits": 3},
        ),
        level="advanced",
        minutes=4,
    ),
    Scenario(
        "Conductances that fade",
        "With a drift exponent of 0.05 and ten seconds between two updates the array forgets while "
        "it learns ({b20} after 20 epochs, {a20} without); at 0.1 and a hundred seconds it forgets "
        "faster than it learns ({c20}).",
        "Which curves fall again. In the Playground, raise Drift and Time per step (More knobs), "
        "then set Time per step to 0 in mid-run: drift stops, and training catches up.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "drift": 0.05, "seconds_per_step": 10.0},
            {"device": "EpiRAM", "drift": 0.1, "seconds_per_step": 100.0},
        ),
        level="advanced",
        minutes=4,
    ),
)


_INTRO = (
    "Experiments of a few minutes each. The curves show what to expect: the test accuracy up to "
    "epoch 20, the mean of five seeds; each card has its own vertical range.",
    "Open one in a new tab, press Start there, and do what its card says under Watch.",
)


class Scenarios:
    """All scenarios as cards, each with a link that opens it."""

    def view(self) -> Text:
        """The cards, as many per row as fit."""
        cards = "".join(_card(scenario) for scenario in SCENARIOS)
        return Text(
            '<div style="display:grid;gap:14px;padding:10px;'
            f'grid-template-columns:repeat(auto-fill,minmax(330px,1fr))">{cards}</div>',
            sizing_mode="stretch_width",
            margin=0,
        )

    def page(self) -> pmui.Page:
        """The whole page."""
        return site.page("scenarios", sidebar=[], main=[site.intro(*_INTRO), self.view()])


def _card(scenario: Scenario) -> str:
    effort = f"{scenario.level}, {scenario.minutes} minutes"
    where = "Playground" if len(scenario.runs) == 1 else f"Race, {len(scenario.runs)} runs"
    return (
        '<article style="border:1px solid #8886;border-radius:6px;padding:12px 14px;'
        'display:flex;flex-direction:column;gap:8px;font-size:14px;line-height:1.45">'
        f'<h2 style="margin:0;font-size:16px">{escape(scenario.title)}</h2>'
        f'<div style="opacity:.85;font-size:13px">{effort}</div>'
        f"{_thumbnail(scenario)}"
        f"<div>{escape(scenario.words(scenario.text))}</div>"
        f"<div><strong>Watch:</strong> {escape(scenario.words(scenario.watch))}</div>"
        f'<a href="{escape(scenario.address)}" target="_blank" rel="noopener" '
        'style="margin-top:auto;font-weight:600;color:inherit">'
        f"Open in the {where}</a></article>"
    )


def _thumbnail(scenario: Scenario) -> str:
    """Accuracy after 5, 10 and 20 epochs, a line for each run in its colour in the Race."""
    width, height = 300, 70
    low = min((run[epochs] for run in scenario.measured() for epochs in EPOCHS), default=0) - 0.05
    lines = []
    for run, (colour, dash) in zip(scenario.measured(), RUN_STYLES, strict=False):
        points = " ".join(
            f"{width * int(epochs) / 20:.0f},{height * (1 - run[epochs]) / (1 - low):.1f}"
            for epochs in EPOCHS
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="3" '
            f'vector-effect="non-scaling-stroke" stroke-dasharray="{_DASHES[dash]}"/>'
        )
    return (
        f'<figure style="margin:0"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'aria-hidden="true" style="width:100%;height:{height}px;border:solid #8888;'
        f'border-width:0 0 1px 1px">{"".join(lines)}</svg><figcaption style="font-size:12px">'
        f"Test accuracy, {100 * low:.0f} to 100%, over 20 epochs{_key(scenario)}</figcaption>"
        "</figure>"
    )


def _key(scenario: Scenario) -> str:
    """The name of each run beside a piece of its line."""
    if len(scenario.runs) == 1:
        return ""
    names = run_names([Settings().knob_values() | dict(run) for run in scenario.runs])
    return "".join(
        '<br><svg width="26" height="8" aria-hidden="true"><line x1="0" x2="24" y1="4" y2="4" '
        f'stroke="{colour}" stroke-width="3" stroke-dasharray="{_DASHES[dash]}"/></svg> '
        f"{escape(name)}"
        for name, (colour, dash) in zip(names, RUN_STYLES, strict=False)
    )


def scenarios() -> pmui.Page:
    """Create the page of one session."""
    return Scenarios().page()
