"""Every notebook opens with a schematic of its own, which stays within its frame."""

import re
from xml.etree import ElementTree

import pytest

from tests.test_notebooks import read
from toolkit.teaching import drawing, drawing_names, series
from toolkit.teaching.drawings import BLUE, HEIGHT, SIGNS, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def test_every_notebook_opens_with_a_drawing_of_its_own():
    shown = []
    for path in series.notebooks():
        second = read(path).code()[1]
        shown += re.findall(r'^drawing\("([\w-]+)"\)$', second)
    assert shown == list(drawing_names())


def matrix(root, left, top, size):
    """What ``Drawing.cells`` drew there: (row, column) -> opacity, negative if orange."""
    found = {}
    for group in root.iter(f"{SVG}g"):
        for path in group:
            x, y, side = map(float, re.match(r"M(\S+) ([\d.]+)h([\d.]+)v", path.get("d")).groups())
            column, row = (x - left) / size, (y - top) / size
            if side == size and column == int(column) >= 0 and row == int(row) >= 0:
                sign = 1 if group.get("fill") == BLUE else -1
                found[int(row), int(column)] = sign * float(path.get("fill-opacity"))
    return found


def check_frame(root):
    """The image has words of its own and stays within its frame, in colours of any page."""
    assert root.find(f"{SVG}title").text
    assert len(list(root.iter())) > 10
    for text in root.iter(f"{SVG}text"):
        half = 0.3 * float(text.get("font-size")) * len(text.text)  # of a wide sans serif
        if text.get("text-anchor") == "middle":
            assert half - 4 <= float(text.get("x")) <= WIDTH - half + 4, text.text
        assert 0 <= float(text.get("y")) <= HEIGHT, text.text
    for shape in root.iter(f"{SVG}rect"):
        x, y, width, height = (float(shape.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= WIDTH and y + height <= HEIGHT
    for shape in root.iter(f"{SVG}path"):
        x, y, size = map(float, re.match(r"M(\S+) (\S+)h([\d.]+)v", shape.get("d")).groups())
        assert x >= 0 and y >= 0 and x + size <= WIDTH and y + size <= HEIGHT
    colours = {each.get("stroke") or each.get("fill") for each in root.iter()} - {None}
    assert not colours & {"#000", "#fff", "black", "white"}  # dark pages have none of these


@pytest.mark.parametrize("name", drawing_names())
def test_a_drawing_is_svg_within_its_frame(name):
    assert drawing(name).about.endswith(".")
    check_frame(ElementTree.fromstring(drawing(name)._repr_html_()))


@pytest.mark.parametrize("name", ["crossbar", "wires"])
def test_inputs_drive_columns_and_outputs_are_rows(name):
    root = ElementTree.fromstring(drawing(name).svg)
    at = {
        each.text: (float(each.get("x")), float(each.get("y"))) for each in root.iter(f"{SVG}text")
    }
    volts, currents = ([at[f"{letter}{i}"] for i in "₀₁₂"] for letter in "VI")
    assert len({y for _, y in volts}) == 1 and len({x for x, _ in currents}) == 1
    assert all(y < below for (_, y), (_, below) in zip(volts, currents, strict=True))


@pytest.mark.parametrize("name", drawing_names())
def test_squares_of_both_signs_have_a_legend(name):
    root = ElementTree.fromstring(drawing(name).svg)
    signs = {group.get("fill") for group in root.iter(f"{SVG}g") if len(group)}
    assert len(signs) < 2 or SIGNS in "".join(root.itertext())


def test_an_unknown_drawing_is_refused():
    with pytest.raises(ValueError, match="name must be one of quick-start"):
        drawing("cat")
