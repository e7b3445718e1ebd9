"""The glossary has what it must, and its table is what it says.

``python tests/teaching/test_glossary.py`` writes notebooks/glossary.md anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from toolkit.teaching.glossary import GLOSSARY, markdown
from toolkit.teaching.series import notebooks
from toolkit.training.experiment.knobs import knobs_of, reference
from toolkit.training.experiment.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "notebooks" / "glossary.md"
NOTEBOOKS = notebooks()
NO_SYMBOL = r"\\(?:mathrm|text|operatorname|mathbb|begin|end)\{[^}]*\}"
SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
GREEK = {f"\\{name}" for name in ("Delta", "eta", "sigma", "theta", "nu", "delta", "lambda", "mu")}
GREEK |= {f"\\{name}" for name in ("alpha", "beta", "gamma", "kappa", "rho", "tau", "varepsilon")}
OPERATORS = {"T", "F", "d"}  # transposed, of Frobenius, of an integral


def symbols(formula: str) -> set[str]:
    """Letters of a formula: Latin and Greek ones, without what is set upright."""
    found = SYMBOL.findall(re.sub(NO_SYMBOL, " ", formula))
    return {letter for letter in found if len(letter) == 1 or letter in GREEK} - OPERATORS


def test_terms_symbols_and_knobs_are_each_explained_once() -> None:
    for column in ("term", "latex", "plain", "knob"):
        names = [value for entry in GLOSSARY if (value := getattr(entry, column))]
        assert len(names) == len(set(names)), column


def test_entries_are_sentences_of_a_notebook() -> None:
    for entry in GLOSSARY:
        assert entry.meaning.endswith(".") and entry.meaning[0].isupper()
        assert 1 <= entry.notebook <= 14
        assert bool(entry.latex) == bool(entry.plain)


def test_a_tooltip_ends_with_symbol_and_notebook() -> None:
    knobs = knobs_of(Settings)
    assert reference(knobs["rank"]) == "Symbol k; notebook 4."
    assert reference(knobs["device"]) == "Notebook 10."
    assert reference(knobs["seed"]) == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_symbol_of_a_notebook_is_in_the_glossary_or_spoken_of_there(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    display = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    known = set().union(*(symbols(entry.latex) for entry in GLOSSARY), *map(symbols, inline))
    used = set().union(*map(symbols, display))
    assert not used - known, "a formula has a symbol that neither the glossary nor the text names"


def test_the_page_is_what_the_glossary_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run: python tests/teaching/test_glossary.py"
    )


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
