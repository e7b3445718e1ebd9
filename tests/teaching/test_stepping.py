"""Drawings to step through show what a computation of their own gives, and fit any page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.teaching.test_drawings import check_frame, matrix
from tests.test_notebooks import read
from toolkit.crossbar import get_device
from toolkit.teaching import series, stepping, stepping_names
from toolkit.teaching.stepping import BLOCK, DEVICE, read_blocks, written


def frames(name: str) -> list[tuple[ElementTree.Element, str]]:
    return [(ElementTree.fromstring(d.svg), text) for d, text in stepping(name).frames]


def shown(
    root: ElementTree.Element, left: float, top: float, size: float, *shape: int
) -> np.ndarray:
    found = matrix(root, left, top, size)
    return np.array([[found[i, j] for j in range(shape[1])] for i in range(shape[0])])


def qr(matrix: np.ndarray) -> np.ndarray:
    q, r = np.linalg.qr(matrix)
    return q * np.copysign(1, np.diag(r))


def test_the_recursion_is_that_of_the_paper_block_by_block() -> None:
    errors, activations, estimates = read_blocks()
    D, A = errors.numpy(), activations.numpy()
    G = D.T @ A
    best = np.sum(np.linalg.svd(G)[1][:2] ** 2) / np.sum(G**2)
    left, sigma, right = (
        getattr(estimates[0], each).numpy() for each in ("left", "sigma", "right")
    )
    for i, (root, text) in enumerate(frames("recursion")):
        if i:
            d, a, w = D[BLOCK * (i - 1) : BLOCK * i], A[BLOCK * (i - 1) : BLOCK * i], 1 / (i + 1)
            G_i = len(D) / BLOCK * d.T @ a
            right = qr((1 - w) * right + w * G_i.T @ left / sigma)
            left = qr((1 - w) * left + w * G_i @ right / sigma)
            sigma = (1 - w) * sigma + w * np.diag(left.T @ G_i @ right)
            np.testing.assert_allclose(
                shown(root, 14, 44, 18, *d.shape), d / abs(D).max(), atol=6e-3
            )
            np.testing.assert_allclose(
                shown(root, 120, 44, 18, *a.shape), a / abs(A).max(), atol=6e-3
            )
            assert f"samples {BLOCK * (i - 1) + 1} to {BLOCK * i}." in text
            assert f"weigh 1/{i + 1} each" in text
        estimate = (left * sigma) @ right.T
        np.testing.assert_allclose(estimates[i].dense().numpy(), estimate, atol=1e-12)
        np.testing.assert_allclose(shown(root, 264, 56, 20, *left.shape), left, atol=6e-3)
        np.testing.assert_allclose(shown(root, 382, 56, 20, *right.T.shape), right.T, atol=6e-3)
        scaled = np.clip(estimate / abs(G).max(), -1, 1)
        np.testing.assert_allclose(shown(root, 544, 24, 17, *G.shape), scaled, atol=6e-3)
        np.testing.assert_allclose(shown(root, 544, 130, 17, *G.shape), G / abs(G).max(), atol=6e-3)
        captured = 1 - np.sum((G - estimate) ** 2) / np.sum(G**2)
        said = [float(each) for each in re.findall(r"energy (-?[\d.]+); .*: ([\d.]+)\.$", text)[0]]
        np.testing.assert_allclose(said, [captured, best], atol=6e-3)
        assert ", ".join(f"{value:.1f}" for value in sigma) in text
    assert i == len(D) // BLOCK


def test_the_write_shows_pulses_of_cells_and_what_they_changed() -> None:
    write, device = written(), get_device(DEVICE)
    wanted = np.zeros_like(write.wanted)
    every = frames("write")
    assert np.abs(shown(every[0][0], 124, 56, 28, *wanted.shape)).max() == 0
    limit = max(abs(phase.written).max() for phase in write.phases)
    for (root, text), phase in zip(every[1:], write.phases, strict=True):
        now = np.outer(phase.rows, phase.columns) != 0
        assert ((write.wanted[now] > 0) == ("rise" in text)).all()
        wanted[now] = write.wanted[now]  # each phase writes the cells of one pair of signs
        np.testing.assert_allclose(shown(root, 340, 56, 28, *now.shape), wanted / limit, atol=6e-3)
        found = shown(root, 530, 56, 28, *now.shape)
        np.testing.assert_allclose(found, phase.written / limit, atol=6e-3)
        pulses = np.abs(write.wanted) * now / 2 * device.levels_up  # as many levels up as down
        assert (np.abs(phase.pulses - pulses) < 1).all()
        numbers = [int(each.text) for each in root.iter() if (each.text or "").isdigit()]
        assert sorted(numbers) == sorted(phase.pulses[0][phase.pulses[0] > 0])
        assert f" {phase.pulses.sum()} pulses on {(phase.pulses > 0).sum()} of 60 cells" in text
        missed = np.linalg.norm(phase.written - wanted) / np.linalg.norm(wanted)
        assert f"so far: {missed:.0%} of" in text
    np.testing.assert_allclose(wanted, write.wanted)
    assert device.levels_up == device.levels_down


@pytest.mark.parametrize("name", stepping_names())
def test_every_frame_stays_within_its_frame(name: str) -> None:
    texts = [text for _, text in frames(name)]
    assert len(set(texts)) == len(texts) == 5
    for root, _ in frames(name):
        check_frame(root)
        assert "blue" in "".join(root.itertext()), "its colours have no legend"


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", stepping_names())
def test_it_is_small_fetches_nothing_and_can_be_shown_twice(name: str) -> None:
    html = stepping(name)._repr_html_()
    assert len(html.encode()) < 60_000
    tags = Tags(html).found
    attributes = {key for _, found in tags for key in found}
    assert not attributes & {"id", "src", "href", "for"}
    (slider,) = (found for tag, found in tags if tag == "input")
    figures = [found for tag, found in tags if tag == "figure"]
    assert "data-lm-suppress-shortcuts" in slider, "JupyterLab would take the arrow keys"
    assert (slider["min"], slider["max"]) == ("0", str(len(figures) - 1))
    assert [("hidden" in each) for each in figures] == [False] + [True] * (len(figures) - 1)


def test_each_is_shown_in_one_notebook() -> None:
    cells = [text for path in series.notebooks() for text in read(path).code()]
    found = [match for text in cells for match in re.findall(r'^stepping\("(\w+)"\)$', text)]
    assert sorted(found) == sorted(stepping_names())


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of recursion, write"):
        stepping("cat")
