"""A class of people on one dashboard: who waits how long, and what stays behind.

    python -m benchmarks.dashboard_class [--sessions 20] [--training 8] [--seconds 20] [--cycles 50]

Opens many sessions over their websockets, as browsers do but without drawing (in a class those are
other machines), has some of them train, turns the rank of one after another, and reports
the milliseconds from the knob to the frame that shows the new rank, frames a second, how evenly
the steps are shared, and that one more run waits its turn. Then opens and closes sessions and
counts the server's threads, memory, Bokeh documents and models. With ``--minutes`` one session
trains for so long at 30 steps a second, and its memory is written to a table. The load of the
machine is printed before and after: other work spoils the times.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import itertools
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

ROOT = Path(__file__).parents[1]
# The dashboard, which prints a line of counts whenever it gets SIGUSR1. Things are counted as they
# are made: gc.get_objects() would hand out tuples that a training thread is still filling.
SERVER = """
import gc, signal, sys, threading, weakref
from pathlib import Path
from bokeh.document import Document
from bokeh.model import Model
from dashboards.app.serve import serve
def watched(kind):
    made, alive = kind.__init__, set()
    def init(self, *args, **properties):
        made(self, *args, **properties)
        alive.add(id(self))
        weakref.finalize(self, alive.discard, id(self)).atexit = False
    kind.__init__ = init
    return alive
documents, models = watched(Document), watched(Model)
def count(*_):
    gc.collect()
    status = Path('/proc/self/status').read_text()
    rss = int(status.split('VmRSS:')[1].split()[0]) // 1024
    print('count', threading.active_count(), rss, len(documents), len(models), flush=True)
signal.signal(signal.SIGUSR1, count)
serve(port=int(sys.argv[1]), max_runs=int(sys.argv[2]), ready=int(sys.argv[3]))
"""


class Visitor:
    """One session of the Playground, over its websocket."""

    def __init__(self, connection: Any, document: Any) -> None:
        self._connection = connection
        self._models = list(_models(document))
        self._stops = self._labelled("Rank")["attributes"]["options"]
        self.frames, self.step, self.state = 0, 0, ""
        self.said: dict[str, str] = {}
        self._ranks: dict[str, asyncio.Event] = {}
        self._reader = asyncio.create_task(self._read())

    async def press(self, label: str) -> None:
        """Press a button."""
        data = self._labelled(label)["id"]
        held = (m for m in self._models if _id(m.get("attributes", {}).get("data")) == data)
        model = {"id": next(held)["id"]}
        values = [["model", model], ["node", "click"], ["data", {"type": "map"}]]
        await self._send(_event("dom_event", values))

    async def set(self, label: str, value: Any) -> None:
        """Send a value for a widget, whatever the widget would allow."""
        model = {"id": self._labelled(label)["id"]}
        await self._send({"kind": "ModelChanged", "model": model, "attr": "value", "new": value})

    async def turn(self, rank: int) -> float:
        """Set the rank; seconds until a frame shows it."""
        shown = self._ranks[f"layer1 {rank}"] = asyncio.Event()
        began = time.monotonic()
        await self.set("Rank", self._stops.index(str(rank)))
        await asyncio.wait_for(shown.wait(), 60)
        return time.monotonic() - began

    def sees(self, label: str) -> bool:
        """Whether a widget of that label has come to the page."""
        return any(model.get("attributes", {}).get("label") == label for model in self._models)

    async def leave(self) -> None:
        """Close the tab."""
        self._connection.close()
        await self._reader

    def _labelled(self, label: str) -> dict[str, Any]:
        """The data of the widget of that label."""
        return next(m for m in self._models if m.get("attributes", {}).get("label") == label)

    async def _send(self, event: dict[str, Any]) -> None:
        await _send(self._connection, "PATCH-DOC", {"events": [event]})

    async def _read(self) -> None:
        while (message := await self._connection.read_message()) is not None:
            if not isinstance(message, str):
                continue
            if '"type":"object"' in message:  # what a panel that was opened brings
                self._models += _models(json.loads(message))
            if "Gradient memory" in message:
                self._look(html.unescape(html.unescape(message)))

    def _look(self, text: str) -> None:
        """Take down what the status line says."""
        self.said = said = dict(re.findall(r"<dt[^>]*>([^<]*)</dt>\s*<dd[^>]*>([^<]*)</dd>", text))
        self.frames += 1
        self.step, self.state = int(said["Step"].replace(",", "")), said["State"]
        for wanted, shown in self._ranks.items():
            if said["Rank in use"].startswith(wanted):
                shown.set()


@asynccontextmanager
async def visitors(address: str, count: int) -> AsyncIterator[list[Visitor]]:
    """So many sessions, one opened after another; closed at the end."""
    here = [await visit(address) for _ in range(count)]
    try:
        yield here
    finally:
        await asyncio.gather(*(visitor.leave() for visitor in here))


async def visit(address: str) -> Visitor:
    """Ask for the page, then for what stands on it, and say that it is there."""
    page = await AsyncHTTPClient().fetch(address, request_timeout=120)
    site = address.partition("?")[0]
    found = re.search(r'"token":\s*"([^"]+)"', page.body.decode())
    assert found is not None, "the page has no token"
    request = HTTPRequest(
        site.replace("http", "ws", 1) + "ws", headers={"Origin": site.rstrip("/")}
    )
    connection = await websocket_connect(
        request, subprotocols=["bokeh", found[1]], max_message_size=2**28
    )
    await _message(connection)
    await _send(connection, "PULL-DOC-REQ", {})
    document = await _message(connection, "PULL-DOC-REPLY")
    await _send(connection, "PATCH-DOC", {"events": [_event("document_ready", [])]})
    return Visitor(connection, document)


async def _message(connection: Any, kind: str = "ACK") -> Any:
    """The content of the next message of that kind; others, and buffers, are passed over."""
    while True:
        header = json.loads(await connection.read_message())
        await connection.read_message()
        content = json.loads(await connection.read_message())
        for _ in range(2 * header.get("num_buffers", 0)):
            await connection.read_message()
        if header["msgtype"] == kind:
            return content


async def _send(connection: Any, kind: str, content: dict[str, Any]) -> None:
    header = {"msgid": uuid.uuid4().hex, "msgtype": kind}
    for part in (header, {}, content):
        await connection.write_message(json.dumps(part))


def _event(name: str, values: list[list[Any]]) -> dict[str, Any]:
    held = {"type": "map", "entries": values} if values else {"type": "map"}
    data = {"type": "event", "name": name, "values": held}
    return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": data}


def _models(part: Any) -> Iterator[dict[str, Any]]:
    """Every model in a document as it travels."""
    if isinstance(part, dict):
        if part.get("type") == "object" and "id" in part:
            yield part
        for item in part.values():
            yield from _models(item)
    elif isinstance(part, list):
        for item in part:
            yield from _models(item)


def _id(value: Any) -> Any:
    return value.get("id") if isinstance(value, dict) else None


async def crowd(address: str, options: argparse.Namespace) -> None:
    """Everybody at once: answers, frames, shares, the queue."""
    async with visitors(address, options.sessions) as here:
        training, looking = here[: options.training], here[options.training :]
        for visitor in training:
            await visitor.press("Start")
        await asyncio.sleep(3)
        before = [(v.step, v.frames) for v in training]
        began = time.monotonic()
        waits: dict[str, list[float]] = {"training": [], "paused": []}
        for rank in itertools.cycle((5, 4)):
            if time.monotonic() - began > options.seconds:
                break
            for name, group in (("training", training), ("paused", looking)):
                waits[name] += [await visitor.turn(rank) for visitor in group]
            await asyncio.sleep(1)
        seconds = time.monotonic() - began
        after = [(v.step, v.frames) for v in training]
        steps, frames = (
            [(late[i] - early[i]) / seconds for early, late in zip(before, after, strict=True)]
            for i in (0, 1)
        )
        print(f"{len(here)} sessions, {len(training)} training, {seconds:.0f} s:")
        for name, times in waits.items():
            if times:
                ms = [1000 * one for one in times]
                print(
                    f"  knob to frame, {name}: {statistics.median(ms):.0f} ms median, "
                    f"{max(ms):.0f} ms worst of {len(ms)}"
                )
        print(
            f"  steps/s a run: {min(steps):.1f} to {max(steps):.1f}, together {sum(steps):.0f}; "
            f"frames/s a page: {min(frames):.1f} to {max(frames):.1f}"
        )
        if looking:
            await looking[0].press("Start")
            await asyncio.sleep(3)
            print(f"  one more run: {looking[0].state}")


async def come_and_go(address: str, server: subprocess.Popen[str], cycles: int) -> None:
    """Sessions that open, train and close, one after another."""
    for done in range(cycles + 1):
        if done in (0, cycles // 5, cycles):
            await asyncio.sleep(8)  # sessions are kept for a moment
            print(f"  after {done} cycles: {counted(server)}")
        if done < cycles:
            async with visitors(address, 1) as (visitor,):
                await visitor.press("Start")
                begun = visitor.step
                while visitor.step < begun + 5:
                    await asyncio.sleep(0.05)


async def train_on(
    address: str, server: subprocess.Popen[str], minutes: float, table: Path | None
) -> None:
    """One session that trains for long: memory and models every half minute, as CSV."""
    rows = ["minute,step,threads,rss_mib,documents,models"]
    async with visitors(f"{address}?speed=30&device=Ag:a-Si", 1) as (visitor,):
        await visitor.press("Start")
        for half in range(int(2 * minutes) + 1):
            numbers = re.findall(r"\d+", counted(server))
            rows.append(",".join([f"{half / 2}", str(visitor.step), *numbers]))
            print(f"  {rows[-1]} {visitor.state}", flush=True)
            if table is not None:
                table.write_text("\n".join(rows) + "\n", encoding="utf-8")
            await asyncio.sleep(30)


def counted(server: subprocess.Popen[str]) -> str:
    """Threads, memory, documents and models of the server."""
    server.send_signal(signal.SIGUSR1)
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("count"):
            threads, rss, documents, models = line.split()[1:]
            return f"{threads} threads, {rss} MiB, {documents} documents, {models} models"
    raise RuntimeError("the server has ended")


@contextmanager
def server(max_runs: int, ready: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A dashboard on a free port, with so many pages made ahead."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(max_runs), str(ready)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Serving"):
                break
        yield f"http://127.0.0.1:{port}/", process
    finally:
        process.terminate()
        began = time.monotonic()
        process.wait(120)
        print(f"the server ended {time.monotonic() - began:.1f} s after SIGTERM")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--training", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=0.0, help="of one session's training")
    parser.add_argument("--table", type=Path, help="CSV file of its memory")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    with server(options.training) as (address, process):
        if options.sessions:
            asyncio.run(crowd(address, options))
        if options.cycles:
            asyncio.run(come_and_go(address, process, options.cycles))
        if options.minutes:
            asyncio.run(train_on(address, process, options.minutes, options.table))
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
