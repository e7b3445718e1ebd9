"""The teacher's pack: its pages need no network, hide no answer, and say what is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from toolkit.cli import main
from toolkit.crossbar import Converter, Crossbar, get_device
from toolkit.lowrank import SBPCA
from toolkit.teaching import pack, stepping, stepping_names
from toolkit.teaching.pack import CLASS, COURSE, read_questions, write_pack
from toolkit.teaching.series import FOLDER, notebooks

QUESTIONS = read_questions()
CHOICES = [each for each in QUESTIONS if "options" in each]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pack without figures on all slides but those of notebook 03, by the pages' names."""
    out = tmp_path_factory.mktemp("pack")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "CLASS", {"03_outer_products": CLASS["03_outer_products"]})
        written = write_pack(out)
    for name in re.findall(r"static/[\w.-]+", "".join(p.read_text("utf-8") for p in written)):
        assert (out / name).is_file(), name
    return {path.stem: path.read_text("utf-8") for path in written}


def test_the_command_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "CLASS", {})
    assert main(["notebooks", "--pack", "--out", str(tmp_path / "pack")]) == 0
    assert str(tmp_path / "pack" / "index.html") in capsys.readouterr().out
    assert main(["notebooks", "--pack", "--html", "--out", str(tmp_path)]) == 2
    assert "html" in capsys.readouterr().err


def test_its_first_page_leads_to_all_others(pages: dict[str, str]) -> None:
    linked = re.findall(r'href="(\w+)\.html"', pages["index"])
    assert {*linked, "index"} == set(pages)


def test_pages_fetch_nothing(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        fetched = re.findall(r"<(?:script|link|img)[^>]*\b(?:src|href)=\"([^\"]+)\"", text)
        assert fetched and all(each.startswith(("static/", "data:")) for each in fetched), name


def test_slides_show_formulas_questions_and_figures_and_no_solution(pages: dict[str, str]) -> None:
    slides = re.findall(r"<section>.*?</section>", pages["slides"], re.DOTALL)
    assert 8 < len(slides) < 20
    assert ['type="range"' in slide for slide in slides[-3:]] == [False, True, True]
    projected = [re.sub(r"<aside>.*?</aside>", "", slide, flags=re.DOTALL) for slide in slides]
    assert any("D^\\top A" in slide for slide in projected)
    assert any("<strong>Predict:</strong>" in slide and "☐ 64" in slide for slide in projected)
    assert any("embed_document" in slide for slide in projected), "no figure"
    text = "".join(slides)
    assert "Measured" in text and "You said" not in text and "You have not" not in text
    assert "errors_of_outputs" not in text, "a solution"


@pytest.mark.parametrize("name", CLASS)
def test_slides_are_of_sections_that_exist(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert [heading for heading in CLASS[name] if f'"## {heading}' not in text] == []


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_folded_answers_stay_out_of_slides_and_paper(path: Path) -> None:
    read = nbformat.read(path, as_version=4)
    folded = re.findall(r"(?s)<details>(.*?)</details>", read.cells[-1].source)
    answers = [line for text in folded for line in text.splitlines() if line.startswith("- ")]
    shown = "\n".join(part.text for part in pack.parts(read))
    assert not [line for line in answers if line in shown]
    assert "**Three questions**" in shown and "**Further reading**" in shown


def test_the_hand_out_asks_and_the_solutions_answer(pages: dict[str, str]) -> None:
    assert pages["handout"].count("<article>") == len(notebooks())
    assert pages["handout"].count('type="range"') == len(stepping_names())
    frames = sum(len(stepping(name).frames) for name in stepping_names())
    assert pages["handout"].count("<svg") == len(notebooks()) + frames
    assert "errors_of_outputs" not in pages["handout"]
    asked, solved = (pages[name].count("Exercise ") for name in ("handout", "solutions"))
    exercises = sum(path.read_text("utf-8").count('"solution"') for path in notebooks())
    assert solved == asked >= exercises > 40
    assert pages["solutions"].count("<pre>") == exercises
    assert "errors_of_outputs" in pages["solutions"]


def test_the_solutions_answer_the_three_questions_of_every_notebook(pages: dict[str, str]) -> None:
    answers = pack.read_closing()
    assert list(answers) == [path.stem[:2] for path in notebooks()]
    assert pages["solutions"].count("<strong>Answer.</strong>") == 3 * len(notebooks())
    assert pages["solutions"].count("<strong>Three questions</strong>") == len(notebooks())
    said = answers["03"][0]
    assert said in pages["solutions"] and said not in pages["handout"]


def per_sample(m: int, n: int, k: int) -> float:
    return SBPCA(rank=k, block_size=8).macs(m, n, 64) / 64


# Notebook, question, the numbers of its answer, and what computes them.
CLOSING: list[tuple[str, int, list[str], Callable[[], list[float]]]] = [
    ("03", 1, ["65,536"], lambda: [64 * 32 * 32]),
    ("04", 1, ["0.30"], lambda: [round((0.1 / 1.1) ** 0.5, 2)]),
    ("05", 2, ["80", "0.18", "0.34"], lambda: [80, round(30**-0.5, 2), cosine(70)]),
    ("07", 2, ["14,400", "8,320"], lambda: [per_sample(128, 65, 16), 128 * 65]),
    ("07", 2, ["336,000"], lambda: [round(per_sample(512, 4608, 16), -3)]),
    ("09", 2, ["33"], lambda: [next(k for k in range(100) if 4 * k > 2 * 64)]),
    ("13", 3, ["41", "80"], lambda: [round(64 * 64 * 0.01), 4 * 4 * 5]),
    ("15", 1, ["1,032", "4,096"], lambda: [SBPCA(rank=8).words(64, 64), 64 * 64]),
    ("15", 1, ["3,584"], lambda: [per_sample(64, 64, 8)]),
]


def cosine(degrees: float) -> float:
    return round(float(np.cos(np.radians(degrees))), 2)


@pytest.mark.parametrize(("name", "question", "said", "compute"), CLOSING)
def test_numbers_of_closing_answers(
    name: str, question: int, said: list[str], compute: Callable[[], list[float]]
) -> None:
    answer = pack.read_closing()[name][question - 1]
    assert all(re.search(rf"(?<![\d,.]){each}(?!\d|[.,]\d)", answer) for each in said)
    assert [float(each.replace(",", "")) for each in said] == compute()


def test_a_cell_that_is_symmetric_though_not_straight() -> None:
    device = get_device("FeFET")
    trace = device.trace(up=32, down=32, start=0.0).numpy()
    state = np.linspace(0.1, 0.9, 9)
    rise = np.interp(state, trace[:32], np.diff(trace[:33]))
    fall = -np.interp(state, trace[:32:-1], np.diff(trace[32:])[::-1])
    assert rise[0] > 2 * rise[-1]
    np.testing.assert_allclose(rise, fall, rtol=0.1)


def test_the_question_bank_has_forty_of_two_kinds(pages: dict[str, str]) -> None:
    assert len(QUESTIONS) == len({each["name"] for each in QUESTIONS}) == 40
    assert 15 < len(CHOICES) < 30
    for each in CHOICES:
        assert each["options"].count(each["answer"]) == 1, each["name"]
        assert len(set(each["options"])) == len(each["options"]) >= 4, each["name"]
    short = next(each for each in QUESTIONS if each["name"] == "qr")
    assert short["answer"].rstrip(".") in pages["answers"]
    assert short["answer"].rstrip(".") not in pages["questions"]


def test_right_options_are_not_all_in_one_place() -> None:
    places = [each["options"].index(each["answer"]) for each in CHOICES]
    assert max(map(places.count, range(4))) < len(places) / 2


def rank(errors: torch.Tensor, activations: torch.Tensor) -> int:
    return int(torch.linalg.matrix_rank(errors.double().T @ activations.double()))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def crossbar(m: int, n: int) -> Crossbar:
    return Crossbar.from_weights(torch.zeros(m, n), device=get_device("ideal"))


def levels() -> int:
    signal = torch.linspace(-1, 1, 10_001)
    return len(Converter(bits=8, bound=1.0).quantise(signal[None]).unique())


def rank_of_last_layer() -> int:
    scores = drawn(64, 10).requires_grad_()
    torch.nn.functional.cross_entropy(scores, torch.arange(64) % 10).backward()
    assert scores.grad is not None
    return rank(scores.grad, drawn(64, 65))


def break_even() -> int:
    return next(k for k in range(1, 100) if SBPCA(rank=k).words(128, 65) >= 128 * 65)


def shrinks() -> float:
    matrix, x = np.diag([1.0, 0.5]), np.ones(2)
    turned = matrix.T @ matrix @ x
    return turned[0] / turned[1]


def most_phases() -> int:
    array = crossbar(8, 8)
    update = SBPCA(rank=1, block_size=8, seed=0).update(drawn(8, 8).float(), drawn(8, 8).float())
    array.apply(update, learning_rate=0.1, scheme="rank-sequential")
    return array.cost().set_phases + array.cost().reset_phases


COMPUTED: dict[str, Callable[[], float]] = {
    "ohm": lambda: 0.2 * 10,
    "cells": lambda: Crossbar.from_weights(
        torch.zeros(128, 65), device=get_device("ideal")
    ).conductance.numel(),
    "levels": levels,
    "one-sample": lambda: rank(drawn(1, 12), drawn(1, 7)),
    "batch-rank": lambda: rank(drawn(64, 128), drawn(64, 65)),
    "energy": lambda: round(100 * 3**2 / (3**2 + 2**2 + 1**2)),
    "last-layer": rank_of_last_layer,
    "break-even": break_even,
    "power-iteration": shrinks,
    "fewer": lambda: 64 / 4,
    "phases": most_phases,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_an_answer_is_what_the_toolkit_computes(name: str) -> None:
    answer = next(each["answer"] for each in QUESTIONS if each["name"] == name)
    assert float(re.sub(r"[^\d.]", "", answer)) == pytest.approx(COMPUTED[name]())


def test_other_answers_of_sbpca() -> None:
    assert SBPCA(rank=3).words(7, 5) == 3 * (7 + 5 + 1)
    estimator = SBPCA(rank=4, block_size=8, seed=0)
    before = estimator.update(drawn(64, 10).float(), drawn(64, 20).float())
    after = estimator.update(torch.zeros(64, 10), torch.zeros(64, 20))
    assert (after.sigma < before.sigma).all()
    torch.testing.assert_close(after.left, before.left)


def test_the_plan_takes_two_hours() -> None:
    plan = (COURSE / "plan.md").read_text("utf-8")
    minutes = [int(number) for number in re.findall(r"^\| (\d+) \|", plan, re.MULTILINE)]
    assert sum(minutes) == 120
    lab = (COURSE / "lab.md").read_text("utf-8")
    assert sum(int(number) for number in re.findall(r"^## .*\((\d+) minutes\)", lab, re.M)) == 90
    rubric = re.findall(r"^\| \w+ \| (\d+) \|", (COURSE / "projects.md").read_text("utf-8"), re.M)
    assert sum(map(int, rubric)) == 100
