"""Pages made ahead, figures copied for them, and defaults of Bokeh that are computed once."""

import asyncio
import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.core.property.descriptors import PropertyDescriptor
from bokeh.core.serialization import Serializer
from bokeh.models import Plot

from benchmarks.dashboard_class import counted, server, visitors
from dashboards.app import opening
from dashboards.playground.figures import _first_of
from dashboards.playground.page import FIRST_STEPS
from dashboards.playground.views import VIEWS
from toolkit.plots import LiveFigure

FIGURES = [name for name, view in VIEWS.items() if isinstance(_first_of(view), LiveFigure)]


def as_sent(figure) -> str:
    """What a browser would get."""
    return str(Serializer(references=set(), deferred=False).encode(figure))


@pytest.mark.parametrize("name", FIGURES)
def test_a_copied_figure_is_the_same_and_shares_no_model(name):
    first = _first_of(VIEWS[name])
    copied = first.copy()
    assert as_sent(copied.figure) == as_sent(first.figure)
    assert not set(map(id, first.figure.references())) & set(map(id, copied.figure.references()))


def test_what_is_set_in_a_copy_stays_there():
    first = _first_of(VIEWS["loss"])
    before = as_sent(first.figure)
    copied = first.copy()
    copied.set_columns(0, {"step": np.arange(3.0), "loss": np.ones(3)})
    copied.figure.xaxis[0].axis_label = "other"
    copied.figure.renderers.pop()
    assert as_sent(first.figure) == before != as_sent(copied.figure)


def test_a_kept_default_is_bokehs_own_and_no_model_shares_one_that_changes(monkeypatch):
    def values(plot):
        return plot.query_properties_with_values(lambda _: True, include_undefined=True)

    slow = values(Plot())
    monkeypatch.setattr(PropertyDescriptor, "_get_default", opening._default)
    first, second = Plot(), Plot()
    for (name, value), other in zip(values(first).items(), values(second).values(), strict=True):
        if first.lookup(name).has_unstable_default(first) and value is not None:
            assert value is not other, name
        else:
            assert value == slow[name], name


@pytest.mark.alone
def test_a_page_made_ahead_is_for_one_visitor_and_for_its_own_address():
    async def visit(address: str) -> None:
        async with visitors(address, 3) as here:
            for visitor in here:
                await visitor.press("Start")
            while not all(visitor.step > FIRST_STEPS for visitor in here):
                await asyncio.sleep(0.05)
            await here[0].turn(5)
            assert here[0].said["Rank in use"].startswith("layer1 5")
            assert here[1].said["Rank in use"].startswith("layer1 4")
        async with visitors(f"{address}?rank=7", 1) as (other,):
            await other.press("Step")
            while not other.said:
                await asyncio.sleep(0.05)
            assert other.said["Rank in use"].startswith("layer1 7")

    def wait_for(words: str) -> None:
        end = time.monotonic() + 60
        while words not in (found := counted(process)):
            assert time.monotonic() < end, found
            time.sleep(0.5)

    with server(max_runs=8, ready=2) as (address, process):
        wait_for("3 threads")  # two of runs
        asyncio.run(visit(address))
        wait_for("3 threads")  # theirs are gone, and two are ready again


def test_a_page_that_cannot_be_made_does_not_end_the_making_of_others(monkeypatch, caplog):
    class Broken:
        is_full, tried = False, 0

        def __len__(self):
            return 0

        async def add(self):
            self.tried += 1
            raise ValueError("no such page")

    async def tries():
        prepared: Future[None] = Future()
        prepared.set_result(None)
        keeping = asyncio.ensure_future(opening.keep_stock(stock, lambda: 0, prepared))
        while stock.tried < 2 and not keeping.done():
            await asyncio.sleep(0.01)
        keeping.cancel()

    monkeypatch.setattr(opening, "QUIET_S", 0.001)
    monkeypatch.setattr(opening.PageHandler, "stock", None)
    stock = Broken()
    asyncio.run(tries())
    assert stock.tried == 2 and "no such page" in caplog.text


def test_without_pages_to_make_ahead_none_is_made_for_another_address(monkeypatch):
    monkeypatch.setattr(opening.PageHandler, "stock", None)
    stock = opening.Stock(SimpleNamespace(_applications={"/": None}), "/", "localhost", 0)
    stock.expect("/?rank=7")
    assert stock.is_full
