"""What README.md, CONTRIBUTING.md and docs tell to run, runs; their tables and links are true.

``python tests/test_readme.py`` writes the knob table into README.md anew.
"""

import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.crossbar import get_device, save_device
from toolkit.crossbar.devices import presets
from toolkit.fitting import EXAMPLE_CSV

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
KNOBS = re.compile(r"(?<=<!-- knobs:begin -->\n).*(?=<!-- knobs:end -->)", re.DOTALL)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every ``python -m toolkit`` line of README and docs that ends by itself."""
    pages = [README, *(doc.read_text(encoding="utf-8") for doc in DOCS)]
    lines = [line for page in pages for block in blocks("sh", page) for line in block.splitlines()]
    return [x for x in lines if x.startswith("python -m toolkit") and "dashboard" not in x]


def knob_table() -> str:
    from toolkit.training.experiment.knobs import markdown_table
    from toolkit.training.experiment.settings import Settings

    return markdown_table(Settings)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split()[1])
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.stem)
def test_python_blocks_of_a_page_run_in_order(doc, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    m, n, batch = 10, 128, 64  # a page may speak of a layer and a batch without making them
    names = {"m": m, "n": n, "batch": batch}
    names |= {"errors": torch.randn(batch, m), "activations": torch.randn(batch, n)}
    for block in blocks("python", doc.read_text(encoding="utf-8")):
        exec(compile(block, doc.name, "exec"), names)


@pytest.mark.parametrize("command", commands())
def test_command_runs(command, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "_DEVICES", dict(presets._DEVICES))  # --devices adds to them
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE_CSV, tmp_path / "measured.csv")  # a reader has a table and a device
    own = replace(get_device("EpiRAM"), name="measured")
    save_device(own, tmp_path / "my_device.yaml")
    (plan,) = blocks("yaml", (ROOT / "docs" / "budget.md").read_text(encoding="utf-8"))
    (tmp_path / "chip.yaml").write_text(plan, encoding="utf-8")
    assert main(shlex.split(command, comments=True)[3:]) == 0
    wanted = re.findall(r"--(?:out|plot) (\S+)", command)
    assert all((tmp_path / name).exists() for name in wanted)


def test_knob_table_is_what_the_knobs_declare():
    assert KNOBS.search(README)[0] == knob_table(), "run: python tests/test_readme.py"


def test_make_targets_exist():
    named = set(re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z]+)\b", GUIDES, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"dashboard", "test"} <= named <= targets


def test_links_lead_to_files():
    texts = [(ROOT, GUIDES), *((doc.parent, doc.read_text(encoding="utf-8")) for doc in DOCS)]
    for folder, text in texts:
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", text)
        assert [link for link in links if not (folder / link).exists()] == []


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    table = knob_table()
    (ROOT / "README.md").write_text(KNOBS.sub(lambda _: table, README), encoding="utf-8")
