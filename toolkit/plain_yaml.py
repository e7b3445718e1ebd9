"""YAML from anybody: plain values only, few levels deep, read in a time that its length bounds."""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 8


def read_plain_yaml(text: str) -> Any:
    """Read YAML of plain values.

    Raises
    ------
    ValueError
        If it is no YAML, has aliases or tags, or more than 8 levels of lists and mappings.
    """
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            # a few aliases, nested, would unfold into gigabytes
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases (*name) are not allowed")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _DEEPEST:
                raise ValueError(f"lists and mappings must be at most {_DEEPEST} levels deep")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"not YAML: {line}") from None
