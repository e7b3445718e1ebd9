"""The tour: each step waits until it was done; a teacher's file is read or refused in a line."""

import pytest

from dashboards.playground.page import Playground
from dashboards.playground.tour import Tour, read_tour

FACTS = {"rank": 4, "method": "sbpca", "device": "EpiRAM", "running": False, "epoch": 0.0}


@pytest.fixture
def tour():
    return Tour(read_tour(), changed=lambda: None, facts=lambda: FACTS)


def test_a_step_waits_for_all_that_it_asks(tour):
    tour.go(1)  # rank 1, and ten epochs
    for rank, epoch in ((4, 30.0), (1, 30.0), (1, 39.9), (4, 41.0), (1, 42.0), (1, 51.9)):
        tour.look(FACTS | {"rank": rank, "epoch": epoch})
    assert tour.place == 1  # ten epochs at rank 1 without a break
    tour.look(FACTS | {"rank": 1, "epoch": 2.0})  # it was reset: counted anew
    tour.look(FACTS | {"rank": 1, "epoch": 11.9})
    assert tour.place == 1
    tour.look(FACTS | {"rank": 1, "epoch": 12.0})
    assert tour.place == 2


def test_a_bound_is_met_from_either_side(tour):
    tour.go(2)  # rank >= 8
    for rank, epoch, place in ((8, 0.0, 2), (7, 12.0, 2), (9, 12.0, 2), (8, 22.0, 3)):
        tour.look(FACTS | {"rank": rank, "epoch": epoch})
        assert tour.place == place


def test_pages_opened_and_files_saved_are_noted_for_the_present_step_only(tour):
    tour.go(5)
    tour.note("saved", True)
    tour.look(FACTS)
    assert tour.place == 5
    tour.note("opened", "race")
    tour.look(FACTS)
    assert tour.place == 6  # and what was saved before does not count
    tour.look(FACTS)
    assert tour.place == 6
    tour.note("saved", True)
    tour.look(FACTS)
    assert tour.place == 7 and "That was the tour" in tour._text.object
    tour.look(FACTS)  # nothing more to do


def test_what_is_noted_counts_while_the_run_is_paused(tour):
    tour.go(5)
    tour.note("opened", "race")
    assert tour.place == 6
    tour.note("saved", True)
    assert tour.place == 7


def test_the_address_resumes_it():
    page = Playground("tour=3", hidden=[8])
    try:
        assert page.tour.place == 3 and page.tour.view.visible
        assert page.address.object.endswith("tour=3")
        page.tour.go(None)
        assert "tour" not in page.address.object and page.tour.begin.visible
        assert "tour must be a number from 0 to 7" in Playground("tour=99", hidden=[8])._refused
    finally:
        page.run.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: one", "must be a list of steps"),
        ("[]", "must be a list of steps"),
        ("- 5", "step 1 must have title, text, done"),
        ("- {title: a, text: b}", "step 1 must have title, text, done"),
        ("- {title: a, text: b, done: {rank: 1}, html: x}", "step 1 must have title, text, done"),
        ("- {title: a, text: b, done: []}", "step 1: done must be a mapping"),
        ("- {title: a, text: b, done: {ranks: 1}}", "step 1: done must name knobs or .*'ranks'"),
        ("- {title: a, text: b, done: {rank: 1}, open: cellar}", "step 1: open must be one of"),
        ("- &a [*a]", "not YAML|aliases"),
    ],
)
def test_a_file_that_will_not_do_is_refused(tmp_path, text, said):
    path = tmp_path / "tour.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_tour(path)


def test_the_tour_teaches_with_names_that_exist():
    for step in read_tour():
        assert step.title and len(step.text.split()) < 60
