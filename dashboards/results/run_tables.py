"""Settings, events and provenance of a run as rows of text: headers, rows, caption."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from dashboards.app.widgets import method_name
from toolkit.results.schema import last_fit
from toolkit.training.experiment.knobs import knobs_of
from toolkit.training.experiment.settings import Settings, present_names

Table = tuple[list[str], list[list[Any]], str]
_MOST_ROWS = 500
_MOST = 4  # changes of a run named in the comparison


def settings_of(tree: xr.DataTree) -> dict[str, Any]:
    """The settings saved with a run, under their present names; empty if there are none."""
    try:
        found = json.loads(str(tree.attrs.get("settings", "{}")))
    except ValueError:
        return {}
    return present_names(found) if isinstance(found, dict) else {}


def settings_table(tree: xr.DataTree) -> Table:
    """Every setting with its unit, as it was when the run was saved."""
    knobs = knobs_of(Settings)
    rows = []
    for name, value in settings_of(tree).items():
        unit = getattr(knobs.get(name), "unit", "")
        shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
        rows.append([name, shown, "" if unit == "1" else unit])
    return ["setting", "at the end", "unit"], rows, "Settings"


def events_table(tree: xr.DataTree) -> Table:
    """Every knob that changed during the run."""
    columns = ["event_step", "knob", "old", "new"]
    headers = ["after step", "knob", "from", "to"]
    events = tree["events"].to_dataset() if "events" in tree else xr.Dataset()
    if not set(columns) <= set(events.variables) or not events.sizes.get("event"):
        return headers, [["–", "no knob changed", "", ""]], "Changes during the run"
    data = [events[name].values[:_MOST_ROWS].tolist() for name in columns]
    rows = [list(row) for row in zip(*data, strict=True)]
    return headers, rows, "Changes during the run"


def provenance_table(tree: xr.DataTree) -> Table:
    """All other attributes of the file."""
    rows = [[name, value] for name, value in tree.attrs.items() if name != "settings"]
    return ["attribute", "value"], rows, "Provenance"


def differences(trees: dict[str, xr.DataTree]) -> Table:
    """The progress of each run, the settings that differ at the end, and their live changes."""
    settings = {name: settings_of(tree) for name, tree in trees.items()}
    names = dict.fromkeys(key for one in settings.values() for key in one)
    held = {key: {str(s[key]) for s in settings.values() if key in s} for key in names}
    differ = [key for key, values in held.items() if len(values) > 1]
    rows = []
    for name, tree in trees.items():
        training = tree["training"].to_dataset() if "training" in tree else xr.Dataset()
        own = (_shown(key, settings[name].get(key, "–")) for key in differ)
        rows.append([name, *_state(training), *own])
    labels = [_label(name) for name in differ]
    headers = ["run", "steps", "samples", "pulses", "test accuracy", *labels]
    changed = [_changes(tree) for tree in trees.values()]
    if any(changed):
        headers.append("settings changed during the run")
        rows = [[*row, text or "none"] for row, text in zip(rows, changed, strict=True)]
    return headers, rows, "Progress, and the settings at the end that differ"


def _label(name: str) -> str:
    return str(getattr(knobs_of(Settings).get(name), "label", None) or name)


def _shown(name: str, value: Any) -> str:
    return method_name(value) if name == "method" else str(value)


def _changes(tree: xr.DataTree) -> str:
    """The live changes of a run as text; empty if there are none."""
    rows = [row for row in events_table(tree)[1] if row[0] != "–"]
    shown = [
        f"{_label(knob)} {_shown(knob, old)} to {_shown(knob, new)} after step {step}"
        for step, knob, old, new in rows[:_MOST]
    ]
    return ", ".join(shown + ["…"] * (len(rows) > _MOST))


def _state(training: xr.Dataset) -> list[str]:
    """Steps, samples, pulses and test accuracy, or R², at the end."""
    shown = [f"{training.sizes.get('step', 0):,}"]
    for name in ("samples_seen", "pulses"):
        known = name in training and training[name].size
        shown.append(f"{int(training[name][-1]):,}" if known else "–")
    return [*shown, last_fit(training) or "–"]
