"""Tables that a benchmark writes into a page of the documentation, between two marks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch


def rewrite(page: Path, name: str, text: str) -> None:
    """Put text between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    ValueError if the page does not have the two marks exactly once.
    """
    marks = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    content, count = marks.subn(
        lambda found: f"{found[1]}{text.strip()}\n{found[2]}", page.read_text(encoding="utf-8")
    )
    if count != 1:
        raise ValueError(f"{page} must have the marks of {name!r} once; it has them {count} times")
    page.write_text(content, encoding="utf-8")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def conditions(threads: int) -> str:
    """What a reader must know of the machine at the time of a measurement."""
    load = os.getloadavg()[0]
    return f"torch {torch.__version__}, {threads} thread(s) a process, load average {load:.1f}"
