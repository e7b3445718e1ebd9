"""Several visitors of one server, over their sockets alone: nobody's leaving or malice is felt."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.dashboard_class import Visitor, counted, server, visitors
from dashboards.playground.page import FIRST_STEPS

pytestmark = pytest.mark.alone
PATIENCE_S = 60


@pytest.fixture(scope="module")
def small_server() -> Iterator[tuple[str, Any]]:
    """A server that lets one run train at a time, and its process."""
    with server(max_runs=1) as found:
        yield found


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)


def test_who_leaves_makes_room_for_the_next_within_five_seconds(small_server) -> None:
    async def visit() -> float:
        async with visitors(small_server[0], 2) as (first, second):
            await first.press("Start")
            await until(lambda: first.step > 30)
            await second.press("Start")
            await until(lambda: second.state == "waits (1 in line)")
            assert second.step <= FIRST_STEPS  # which take no place
            began = time.monotonic()
            await first.leave()
            await until(lambda: second.step > FIRST_STEPS)
            return time.monotonic() - began

    assert asyncio.run(visit()) < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_cleanly_while_several_train(number) -> None:
    async def train(address: str, process: Any) -> float:
        async with visitors(address, 3) as here:
            for visitor in here:
                await visitor.press("Start")
            await until(lambda: all(visitor.step > 3 for visitor in here))
            began = time.monotonic()
            process.send_signal(number)
            await asyncio.to_thread(process.wait, PATIENCE_S)
            return time.monotonic() - began

    with server(max_runs=8) as (address, process):
        seconds = asyncio.run(train(address, process))
        assert process.returncode == 0
        assert seconds < 15  # 3 s where nothing else runs


def test_sessions_that_come_and_go_leave_nothing_behind(small_server) -> None:
    address, process = small_server

    async def cycles(count: int) -> tuple[str, ...]:
        for _ in range(count):
            async with visitors(address, 1) as (visitor,):
                await visitor.press("Start")
                await until(lambda: visitor.step > 30)
        end, before = time.monotonic() + PATIENCE_S, ()
        while True:  # sessions are kept for 4 s, their documents until they are collected
            found = tuple(part for part in counted(process).split(", ") if "MiB" not in part)
            if "1 threads" in found and found == before:
                return found
            assert time.monotonic() < end, found
            before = found
            await asyncio.sleep(6)

    first = asyncio.run(cycles(1))
    assert asyncio.run(cycles(5)) == first


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("Rank", 10**6),
        ("Rank", "many"),
        ("Batch size", -1),
        ("Learning rate", None),
        ("Cycle-to-cycle", 1e9),
        ("Read noise", float("1e308")),
        ("Method", "__import__('os')"),
        ("Device", {"type": "object", "name": "Figure", "id": "evil"}),
        ("Speed limit", -5),
        ("Layer", "../../etc/passwd"),
        ("Seed", "9" * 4000),
        ("Hidden", "4096, 4096, 4096"),
    ],
)
def test_values_that_no_widget_would_send_change_nothing(small_server, label, value) -> None:
    async def visit() -> None:
        async with visitors(small_server[0], 1) as (visitor,):
            await visitor.press("New run ▾")
            await visitor.press("More knobs ▾")
            await until(lambda: visitor.sees(label) and visitor.sees("Begin new run"))
            before = await begun_anew(visitor)
            await visitor.set(label, value)
            assert await begun_anew(visitor) == before  # and it still answers

    async def begun_anew(visitor: Visitor) -> dict[str, str]:
        """What the page says of a new run of rank 5, which takes the fixed knobs, too."""
        await visitor.press("Begin new run")
        await visitor.turn(4)
        await visitor.turn(5)
        return visitor.said

    asyncio.run(visit())
