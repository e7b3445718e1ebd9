"""The Scenarios page: settings worth a look, each with a paragraph and a link that runs them.

A scenario is one entry of ``SCENARIOS``. One run opens in the Playground, several in the Race.
``python -m benchmarks.scenarios`` trains them all and prints the figures that the texts name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import panel_material_ui as pmui

from dashboards.app import site
from dashboards.app.settings_text import query_of
from dashboards.app.site import Text
from dashboards.race.page import query_of_runs

Knobs = Mapping[str, Any]
MEASURED = Path(__file__).with_name("measured.json")  # written by benchmarks/scenarios.py


@dataclass(frozen=True)
class Scenario:
    """One entry: what it shows, what to do, and the knobs of each run."""

    title: str
    text: str
    watch: str
    runs: tuple[Knobs, ...]

    @property
    def address(self) -> str:
        """The link that opens it, relative to the site."""
        if len(self.runs) == 1:
            return site.link("playground", query_of(self.runs[0]))
        return site.link("race", query_of_runs(self.runs))


SCENARIOS = (
    Scenario(
        "Rank 1 crawls, then raise it",
        "One outer product a batch follows only the strongest direction of the gradient. After "
        "five passes over the digits rank 1 has 62 % of the test set right, rank 4 has 90 %.",
        "Start, wait for five epochs, then move Rank from 1 to 4. The loss falls at once: the "
        "estimator keeps what it has learned and adds directions.",
        ({"rank": 1},),
    ),
    Scenario(
        "Rank 4 is enough",
        "The gradient of this layer is a 128 x 65 matrix, yet four outer products a batch train as "
        "well as the whole of it: 97 % against 96 % after 20 epochs, with a tenth of the memory.",
        "The curves by samples lie on each other. Lower Rank of run A until they part.",
        ({}, {"method": "sgd"}),
    ),
    Scenario(
        "The best approximation does not train best",
        "The truncated SVD is by definition nearest to every batch's gradient. What it drops it "
        "drops in every batch; SBPCA's history lets the lesser directions through over time, and "
        "FeedbackPCA carries over what it has not written.",
        "At rank 1, after 20 epochs: SVD 88 %, SBPCA 93 %, FeedbackPCA 96 %.",
        ({"method": "svd", "rank": 1}, {"rank": 1}, {"method": "feedback", "rank": 1}),
    ),
    Scenario(
        "Small batches, many updates",
        "A batch of 8 updates the weights 64 times as often as one of 512. At equal samples it is "
        "far ahead (95 % against 64 % after five epochs), at equal updates it is not.",
        "Switch 'Compare along' from samples to steps.",
        (
            {"batch_size": 8, "learning_rate": 0.1},
            {},
            {"batch_size": 512},
        ),
    ),
    Scenario(
        "Two spirals",
        "Two inputs, two classes, and a boundary that winds: small enough to see the weights of "
        "every cell. Rank 4 solves it in some ten epochs.",
        "Choose layer2 and look at its weights (under Views); then try rank 1.",
        ({"dataset": "spirals", "hidden": [32, 32], "batch_size": 32, "learning_rate": 0.5},),
    ),
    Scenario(
        "Writing every sample wears cells out",
        "On EpiRAM cells the full gradient, written sample by sample, and SBPCA at rank 4 end at "
        "the same accuracy, within a point. The one writes twice the pulses of the other, and 16 "
        "times the outer products.",
        "Compare along pulses: at equal pulses SBPCA is ahead.",
        ({"device": "EpiRAM"}, {"device": "EpiRAM", "method": "sgd"}),
    ),
    Scenario(
        "A coarse, noisy cell likes averages",
        "ReRamSB cells make large, uneven steps. Written sample by sample they end near 70 %; "
        "rank 4 averages the batch first and ends near 82 %, rank 10 near 90 %.",
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
        "and disturb. Where the sum can be formed first, half of the pulses do, and on a strongly "
        "curved cell the accuracy after ten epochs is 96 % against 91 %.",
        "Pulses of the two runs, and which of them falls back later: curvature eats weights that "
        "have come near their limits.",
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
    ),
    Scenario(
        "NMF spends fewer pulses",
        "Non-negative factors of either sign cannot cancel each other. On AlOx/HfO2 cells NMF ends "
        "where SBPCA does, at 92 %, with three quarters of the pulses; it is slower to compute.",
        "Compare along pulses.",
        ({"device": "AlOx/HfO2", "method": "nmf"}, {"device": "AlOx/HfO2"}),
    ),
    Scenario(
        "Too few levels",
        "With 8 levels between its extremes a cell cannot make the small steps that the end of "
        "training needs: stochastic rounding carries it to 82 % in ten epochs, then the weights "
        "wander. The same cell with its own 97 levels does well for longer.",
        "Wait for accuracy to fall, then lower the learning rate: each pulse stays as large as "
        "before, but there are fewer of them.",
        ({"device": "Ag:a-Si", "levels": 8},),
    ),
    Scenario(
        "The noise cliff",
        "Cycle-to-cycle noise adds up with every pulse. At 5 % of the range a pulse training still "
        "reaches 92 %, at 10 % about 50 %: the noise of writing has overtaken the writing.",
        "Raise Cycle-to-cycle slowly while it trains, and look at the conductance maps.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "cycle_to_cycle": 0.05},
            {"device": "EpiRAM", "cycle_to_cycle": 0.1},
        ),
    ),
    Scenario(
        "Training around dead cells",
        "A tenth of the cells stuck costs one point, two fifths cost four: backpropagation through "
        "the array sees the faults and uses the other cells.",
        "Add Stuck low and Stuck high in mid-run: accuracy drops, and comes back.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "stuck_low": 0.05, "stuck_high": 0.05},
            {"device": "EpiRAM", "stuck_low": 0.2, "stuck_high": 0.2},
        ),
    ),
    Scenario(
        "How many bits must a converter have?",
        "With 8 bits at both ends nothing is lost, with 4 about two points, with 3 about nine: the "
        "errors of the last layer no longer fit between two steps.",
        "Set DAC and ADC apart, in the Playground: which of them hurts first?",
        (
            {"device": "EpiRAM", "dac_bits": 8, "adc_bits": 8},
            {"device": "EpiRAM", "dac_bits": 4, "adc_bits": 4},
            {"device": "EpiRAM", "dac_bits": 3, "adc_bits": 3},
        ),
    ),
    Scenario(
        "Conductances that fade",
        "With a drift exponent of 0.05 and ten seconds between two updates the array forgets while "
        "it learns; at 0.1 and a hundred seconds it forgets faster.",
        "Set Time per step to 0 in mid-run: drift stops, and training catches up.",
        (
            {"device": "EpiRAM"},
            {"device": "EpiRAM", "drift": 0.05, "seconds_per_step": 10.0},
            {"device": "EpiRAM", "drift": 0.1, "seconds_per_step": 100.0},
        ),
    ),
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
        return site.page("scenarios", sidebar=[], main=[self.view()])


def _card(scenario: Scenario) -> str:
    where = "Playground" if len(scenario.runs) == 1 else f"Race, {len(scenario.runs)} runs"
    return (
        '<article style="border:1px solid #8886;border-radius:6px;padding:12px 14px;'
        'display:flex;flex-direction:column;gap:8px;font-size:14px;line-height:1.45">'
        f'<h2 style="margin:0;font-size:16px">{escape(scenario.title)}</h2>'
        f"<div>{escape(scenario.text)}</div>"
        f"<div><strong>Watch:</strong> {escape(scenario.watch)}</div>"
        f'<a href="{escape(scenario.address)}" '
        'style="margin-top:auto;font-weight:600;color:inherit">'
        f"Open in the {where}</a></article>"
    )


def scenarios() -> pmui.Page:
    """Create the page of one session."""
    return Scenarios().page()
