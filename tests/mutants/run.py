"""Apply each mutant to a copy of the project and see its test fail: python tests/mutants/run.py

Arguments pick the mutants whose file contains one of them. Exit status 1 if one survives, or if
its text is no longer in its file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
PARTS = (
    "toolkit",
    "dashboards",
    "tests",
    "benchmarks",
    "docs",
    "notebooks",
    "pyproject.toml",
    "README.md",
)
WORKERS = os.cpu_count() or 1


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(word in m.file for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        copies = [_copy(Path(folder) / str(number)) for number in range(WORKERS)]
        with ThreadPoolExecutor(WORKERS) as pool:
            parts = pool.map(_try_all, copies, (chosen[i::WORKERS] for i in range(WORKERS)))
            problems = [problem for part in parts for problem in part]
    print(f"{len(chosen) - len(problems)} of {len(chosen)} mutants killed")
    return 1 if problems or not chosen else 0


def _copy(target: Path) -> Path:
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "mutants")
            shutil.copytree(source, target / part, ignore=ignored)
        else:
            shutil.copy(source, target / part)
    return target


def _try_all(copy: Path, mutants: list[Mutant]) -> list[Mutant]:
    problems = []
    for mutant in mutants:
        outcome = _outcome(copy, mutant)
        print(f"{outcome:>9}  {mutant.file}: {mutant.new.strip()[:70]}", flush=True)
        if outcome != "killed":
            problems.append(mutant)
    return problems


def _outcome(copy: Path, mutant: Mutant) -> str:
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return "not there"
    try:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [*command, *mutant.test.split()], cwd=copy, env=environment, capture_output=True
        )
    finally:
        file.write_text(text, encoding="utf-8")
    # 1: a test has failed; anything else says that none ran as it should
    return {0: "SURVIVED", 1: "killed"}.get(ran.returncode, "no test")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
