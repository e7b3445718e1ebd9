"""Peak memory of a function, as measured by torch's allocator."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(function: Callable[[], Any], *, device: torch.device | str = "cpu") -> int:
    """Peak bytes of tensors alive at once while ``function`` ran, above those alive before.

    Counts everything that torch's allocator gave out and took back, including temporaries inside
    operators and what ``function`` leaves behind, but not what libraries allocate themselves. On
    the CPU the events come from ``torch.profiler`` and are exact to the byte; if ``function``
    frees a tensor from before, this is not subtracted and the result is an upper bound. On a CUDA
    device the result is the allocator's own peak, in blocks of 512 bytes.

    Parameters
    ----------
    function
        Called once, without arguments.
    device
        The device whose memory is measured.

    Returns
    -------
    int
        Bytes; 0 if nothing was allocated.
    """
    place = torch.device(device)
    gc.collect()  # what others have left would be freed meanwhile
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
    """The largest running sum of allocations minus releases, in order of time."""
    recorded = watched.profiler
    if recorded is None or recorded.kineto_results is None:
        raise RuntimeError("torch was built without its profiler: memory cannot be measured")
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()  # type: ignore[attr-defined]  # missing in torch's stubs
        peak = max(peak, live)
    return peak
