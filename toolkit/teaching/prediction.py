"""Predictions: the reader states the expected result before it is computed.

The notebook measures the result and explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel as pn
import param

WIDTH = 420  # pixels: a question of one line


class _Line(pn.pane.Markdown):
    """A line of text that can change in a notebook without a network.

    Panel 1.9 sends a text's style sheets again with every change, by their addresses on the
    internet; here the first ones are kept.
    """

    def _update(self, ref: str, model: Any) -> None:  # noqa: ARG002
        properties = self._get_properties(model.document)
        model.update(**{name: properties[name] for name in properties if name != "stylesheets"})


class Prediction(pn.viewable.Viewer):
    """A question with a widget for the answer; see :func:`predict`.

    ``said`` is what the reader chose, None before: where a slider starts is nobody's answer.
    """

    said = param.Parameter(None)

    def __init__(self, question: str, widget: Any, unit: str = "", *, said: Any = None) -> None:
        super().__init__(said=said)
        self.widget, self.unit = widget, unit
        widget.param.watch(lambda event: setattr(self, "said", event.new), "value")
        self._view = pn.Column(pn.pane.Markdown(f"**Predict:** {question}"), widget)

    @property
    def value(self) -> Any:
        """Where the widget stands: a number, an option, or None if no option is chosen."""
        return self.widget.value

    def beside(self, measured: Any) -> pn.viewable.Viewable:
        """``You said …; measured …``, which follows the widget if it moves again."""
        return _Line(pn.bind(self._both, self.param.said, measured))

    def __panel__(self) -> pn.viewable.Viewable:
        return self._view

    def _both(self, said: Any, measured: Any) -> str:
        mine = "You have not chosen yet" if said is None else f"You said **{self._text(said)}**"
        return f"{mine}; measured: **{self._text(measured)}**."

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            text = value
        else:
            text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{text} {self.unit}".strip()


def predict(
    question: str,
    *,
    low: float | None = None,
    high: float | None = None,
    guess: Any = None,
    unit: str = "",
    step: float | None = None,
    options: Sequence[Any] | None = None,
) -> Prediction:
    """Ask for a number between ``low`` and ``high``, or for one of ``options``.

    A slider starts at ``guess`` (None: the middle) and moves by ``step`` (None: a hundredth of the
    range); it counts as an answer once it has moved. No option is chosen at first, unless
    ``guess`` is one. Raises ValueError for an empty range, a guess outside it, and for both or
    neither of range and options.
    """
    if (options is None) == (low is None or high is None):
        raise ValueError(f"predict: give low and high, or options; got {low}, {high}, {options}")
    if options is not None:
        return Prediction(question, _choice(list(options), guess), unit, said=guess)
    assert low is not None and high is not None
    return Prediction(question, _slider(low, high, guess, step, unit), unit)


def _choice(options: list[Any], guess: Any) -> Any:
    if guess is not None and guess not in options:
        raise ValueError(f"guess: {guess!r} is none of {options}")
    choice = pn.widgets.RadioBoxGroup(options=options)
    choice.value = guess  # passed above, None would select the first
    return choice


def _slider(low: float, high: float, guess: float | None, step: float | None, unit: str) -> Any:
    if not low < high:
        raise ValueError(f"low: {low} is not below high, {high}")
    value = (low + high) / 2 if guess is None else guess
    if not low <= value <= high:
        raise ValueError(f"guess: {guess} lies outside {low} to {high}")
    label = f"your guess ({unit})" if unit else "your guess"
    size = (high - low) / 100 if step is None else step
    return pn.widgets.FloatSlider(
        label=label, start=low, end=high, value=value, step=size, width=WIDTH
    )
