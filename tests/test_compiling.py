"""Whether a first step finds its loops compiled: in a process that has loaded no other loops."""

import subprocess
import sys

SCRIPT = """
from numba.core.dispatcher import Dispatcher
from toolkit.compiling import compile_loops
from toolkit.crossbar import kernels
from toolkit.lowrank import estimator_names
from toolkit.lowrank.compiled import recursions
from toolkit.training import Experiment

def loops():
    every = vars(kernels) | vars(recursions)
    return {(n, s) for n, v in every.items() if isinstance(v, Dispatcher) for s in v.signatures}

compile_loops()
before = loops()
for method in estimator_names():
    Experiment(method=method, hidden=[12]).step()
Experiment(method="sbpca", core="full", hidden=[12]).step()
for device in ("ideal", "Ag:a-Si", "GST PCM", "FeFET"):
    for coding in ("whole pulses", "coincidence"):
        run = Experiment(device=device, coding=coding, hidden=[12])
        run.step()
        run.step()
print(len(before), sorted(loops() - before))
"""


def test_no_step_compiles_after_compile_loops():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    count, left = done.stdout.split(maxsplit=1)
    assert int(count) > 5
    assert left.strip() == "[]"
