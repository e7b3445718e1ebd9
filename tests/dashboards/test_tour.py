"""The tour: each step waits until it was done; a teacher's file is read or refused in a line."""

import numpy as np
import pytest

from dashboards.playground.page import Playground
from dashboards.playground.tour import Tour, read_tour
from toolkit.training import Experiment

FACTS = {"rank": 4, "method": "sbpca", "device": "EpiRAM", "running": False, "epoch": 0.0}


@pytest.fixture
def tour():
    return Tour(read_tour(), changed=lambda: None, facts=lambda: FACTS)


def told(tour):
    """Whether the present step says that it is done, and offers to go on."""
    assert tour._next.disabled == tour._skip.visible
    return "Done ✓" in tour._seen.object and not tour._next.disabled


def test_a_step_waits_for_all_that_it_asks(tour):
    tour.go(1)  # rank 1 from the start, and ten epochs
    for rank, epoch in ((4, 30.0), (1, 30.0), (1, 39.9), (4, 41.0), (1, 42.0), (1, 51.9)):
        tour.look(FACTS | {"rank": rank, "epoch": epoch})
    assert not told(tour)  # ten epochs at rank 1 without a break
    tour.look(FACTS | {"rank": 1, "epoch": 2.0})  # it was reset: counted anew
    tour.look(FACTS | {"rank": 1, "epoch": 11.9})
    assert not told(tour)
    tour.look(FACTS | {"rank": 1, "epoch": 12.0})
    assert told(tour) and "accuracy rises more slowly" in tour._seen.object
    assert tour.place == 1  # until Next is pressed
    tour.look(FACTS | {"rank": 4, "epoch": 13.0})
    assert told(tour)
    tour._next.clicks += 1
    assert tour.place == 2 and not told(tour)


def test_a_run_that_began_otherwise_does_not_count(tour):
    tour.go(1)
    for epoch in (30.0, 45.0):
        tour.look(FACTS | {"rank": 1, "epoch": epoch, "begun": {"rank": 4}})
    assert not told(tour)
    for epoch in (0.0, 10.0):
        tour.look(FACTS | {"rank": 1, "epoch": epoch, "begun": {"rank": 1}})
    assert told(tour)


def test_a_bound_is_met_from_either_side(tour):
    tour.go(2)  # rank >= 8
    for rank, epoch, done in ((8, 0.0, 0), (7, 12.0, 0), (9, 12.0, 0), (8, 22.0, 1)):
        tour.look(FACTS | {"rank": rank, "epoch": epoch})
        assert told(tour) == bool(done)


def test_pages_opened_and_files_saved_are_noted_for_the_present_step_only(tour):
    tour.go(5)
    tour.note("saved", True)
    assert tour._next.disabled
    tour.note("opened", "race")  # though the run is paused
    assert not tour._next.disabled and tour._next.label == "I am back"
    assert "Done" not in tour._seen.object and "press Start all" in tour._text.object
    tour._next.clicks += 1
    tour.look(FACTS)  # what was saved before does not count
    assert tour.place == 6 and not told(tour)
    tour.note("saved", True)
    assert told(tour)
    tour._next.clicks += 1
    assert tour.place == 7 and "That was the tour" in tour._text.object
    assert not tour._next.visible and not tour._skip.visible
    tour.look(FACTS)  # nothing more to do


def test_the_address_resumes_it():
    page = Playground("tour=3", hidden=[8])
    try:
        assert page.tour.place == 3 and page.tour.view.visible
        assert page.address.object.endswith("tour=3")
        page.tour.go(None)
        assert page.tour._facts()["begun"]["rank"] == 4
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
        ("- {title: a, text: b, seen: c}", "step 1 must have title, text, done"),
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


def test_a_file_without_what_was_seen_still_opens(tmp_path):
    path = tmp_path / "tour.yaml"
    path.write_text("- {title: a, text: b, done: {rank: 1}}")
    (step,) = read_tour(path)
    assert step.seen == "" and step.done == {"rank": 1}


def test_what_the_tour_says_of_pcmo_and_of_sgd_is_measured():
    assert "92%" in (said := read_tour()[3].seen) and "88%" in said and "94%" in said
    assert "1.5 to 1.9 times the pulses, for 91% against 94%" in read_tour()[4].seen

    def five_epochs(run, **knobs):
        """Mean accuracy in percent, and pulses a step."""
        run.change(**knobs)
        pulses, steps, seen = run.pulses, run.step_count, len(run.record.evaluations)
        list(run.steps(epochs=5))
        accuracy = 100 * run.record.evaluations[seen:, 2].mean()
        return accuracy, (run.pulses - pulses) / (run.step_count - steps)

    found = []
    for seed in range(3):
        run = Experiment(device="AlOx/HfO2", rank=1, seed=seed)
        list(run.steps(epochs=11))
        five_epochs(run, rank=8)
        cells, other = five_epochs(run), five_epochs(run, device="PCMO")
        back, full = five_epochs(run, device="AlOx/HfO2"), five_epochs(run, method="sgd")
        found.append([cells[0], other[0], back[0], full[0]])
        assert 1.5 < full[1] / back[1] < 1.9
    assert np.mean(found, axis=0) == pytest.approx([92, 88, 94, 91], abs=2)


def test_the_tour_teaches_with_names_that_exist():
    for step in read_tour():
        assert step.title and len(step.text.split()) < 60
