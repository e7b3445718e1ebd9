"""What training in crossbars costs a chip: memory, traffic, writes, energy, time and life."""

from toolkit.budget.activity import Activity, measured
from toolkit.budget.budget import DENSE, PARTS, Chip, budget, budget_methods, compare
from toolkit.budget.layers import Layer, layers_of, read_layers
from toolkit.budget.plan import read_budget, read_network
from toolkit.budget.prices import PRICES, read_prices

__all__ = [
    "DENSE",
    "PARTS",
    "PRICES",
    "Activity",
    "Chip",
    "Layer",
    "budget",
    "budget_methods",
    "compare",
    "layers_of",
    "measured",
    "read_budget",
    "read_layers",
    "read_network",
    "read_prices",
]
