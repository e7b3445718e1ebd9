"""YAML from anybody: plain values only, few levels deep, read in a time that its length bounds."""

from __future__ import annotations

import os
import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from toolkit.checks import check_file

_DEEPEST = 8


class _Loader(yaml.SafeLoader):
    """With the numbers of YAML 1.2, to which 1e-3 is one, and no key twice.

    For PyYAML, 1e-3 is text, and the last of two equal keys silently wins.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping, if no key is in it twice."""
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                words = f"{key.value[:40]!r} is there twice"
                raise ConstructorError(None, None, words, key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep=deep)


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
        If it is no YAML, has a key twice, aliases or tags, or more than 8 levels of lists and
        mappings; the message names the line where there is one.
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
        raise ValueError(f"not YAML: {_problem(error)}") from None


def open_plain_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a file of it; FileNotFoundError, or ValueError that names the file."""
    file = check_file("path", path)
    try:
        return read_plain_yaml(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line, in one line."""
    mark = getattr(error, "problem_mark", None)
    words = getattr(error, "problem", None) or str(error) or type(error).__name__
    where = f"line {mark.line + 1}: " if mark else ""
    return where + words.splitlines()[0][:120]
