"""YAML from anybody: plain values only, few levels deep, read in a time that its length bounds."""

from __future__ import annotations

import re
from typing import Any

import yaml

_DEEPEST = 8


class _Loader(yaml.SafeLoader):
    """With the numbers of YAML 1.2, to which 1e-3 is one; for PyYAML it would be text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


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
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"not YAML: {line}") from None
