"""Loading a saved state: whole and with the same meaning, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def load_whole(
    state: Any, present: Callable[[], dict[str, Any]], load: Callable[[Mapping[str, Any]], None]
) -> None:
    """Let ``load`` take ``state``; where it fails, load what was ``present`` again.

    Raises
    ------
    ValueError
        If an entry is missing, or ``load`` refuses or cannot take one.
    """
    before = present()
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a mapping; got {type(state).__name__}")
    if missing := sorted(set(before) - set(state)):
        raise ValueError(f"state must have {', '.join(sorted(before))}; missing: {missing[0]}")
    try:
        load(state)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        load(before)
        text = f"has no {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise error if type(error) is ValueError else ValueError(f"state {text}") from error


def check_same(saved: Any, present: Mapping[str, Any]) -> None:
    """ValueError, naming the first that differs, unless these settings were saved as they are."""
    for name, mine in present.items():
        theirs = saved.get(name) if isinstance(saved, Mapping) else None
        if theirs != mine:
            raise ValueError(
                f"state must be of an array with {name} {_shortened(mine)}; "
                f"got one with {_shortened(theirs)}"
            )


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
