"""How much memory a function takes at its worst moment, as the allocator saw it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], Any], *, device: torch.device | str = "cpu") -> int:
    """The most bytes of tensors that lived at once while ``function`` ran, above those before it.

    Everything that torch's allocator gave out and took back counts, temporaries inside operators
    and what ``function`` leaves behind included; not what libraries allocate by themselves. On the
    CPU the events are those of ``torch.profiler``, exact to the byte, and a tensor from before that
    ``function`` frees makes no room: the figure is an upper bound then. On a CUDA device it is the
    allocator's own peak, in its blocks of 512 bytes.

    Parameters
    ----------
    function
        Is called once, without arguments.
    device
        Whose memory is watched.

    Returns
    -------
    int
        Bytes; 0 if it allocated nothing.
    """
    place = torch.device(device)
    if place.type == "cuda":
        before = torch.cuda.memory_allocated(place)
        torch.cuda.reset_peak_memory_stats(place)
        function()
        return max(0, torch.cuda.max_memory_allocated(place) - before)
    if place.type != "cpu":
        raise ValueError(f"device must be a CPU or CUDA device; got {place}")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        kept = function()
    del kept
    return _peak(watched)


def _peak(watched: profile) -> int:
    """The highest sum of allocations less releases, in the order in which they came."""
    recorded = watched.profiler
    if recorded is None or recorded.kineto_results is None:
        raise RuntimeError("torch was built without its profiler: memory cannot be watched")
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()  # type: ignore[attr-defined]  # missing in torch's stubs
        peak = max(peak, live)
    return peak
