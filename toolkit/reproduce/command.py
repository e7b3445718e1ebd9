"""``python -m toolkit reproduce``: measure the claims asked for, then report all that are there."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import xarray as xr

from toolkit.checks import check_count
from toolkit.reproduce import figures, report
from toolkit.reproduce.claim import FULL, QUICK, Claim
from toolkit.reproduce.claims import CLAIMS
from toolkit.reproduce.results import Journal, open_dataset, save_dataset, to_dataset
from toolkit.reproduce.statistics import overall_verdict
from toolkit.reproduce.study import Case, Measure, Row, load_and_measure
from toolkit.results import root_attributes
from toolkit.training.experiment.sweep import MOST_WORKERS, cluster
from toolkit.writing import beside

Say = Callable[[str], None]


def reproduce(
    names: Sequence[str],
    *,
    out: Path,
    data_dir: str | os.PathLike[str] | None = None,
    size: str = FULL,
    seeds: int | None = None,
    fresh: bool = False,
    workers: int = 1,
    say: Say = print,
) -> Path:
    """Measure the claims in ``names``, then write ``out/report.md`` on every claim in ``out``.

    Each claim leaves ``C1.nc`` (an xarray Dataset), ``C1.html`` (its figure) and ``C1.jsonl``, the
    cases measured so far: a call that was interrupted goes on where it stopped, one with other
    settings measures anew what differs. ``fresh`` forgets what is there. A case whose data set is
    missing is left out, and the report says so.

    Parameters
    ----------
    names
        Of claims, "C1" to "C8", "atlas", or "all".
    size
        "full", "quick", or "smallest" for tests.
    seeds
        Runs of each case; None: as many as the claim asks for.
    workers
        Processes that measure cases, on Dask; 1: none but this one.

    Raises
    ------
    FileNotFoundError
        If no data set of these claims is here, so that nothing was measured.
    ValueError
        If a claim is unknown, or ``seeds`` or ``workers`` is no whole number of 1 or more.
    """
    claims = [CLAIMS[name] for name in _known(names)]
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds must be 1 or more; got {seeds}")
    check_count("workers", workers, 1, MOST_WORKERS)
    out.mkdir(parents=True, exist_ok=True)
    measured: list[Row] = []
    for claim in claims:
        journal = Journal(out / f"{claim.name}.jsonl", fresh=fresh)
        cases = [replace(case, seeds=seeds or case.seeds) for case in claim.plan(size)]
        rows, missing = _measure(claim, cases, data_dir, journal, workers, say)
        measured += rows
        data = _described(to_dataset(rows), claim, cases, size, seeds, missing)
        save_dataset(data, out / f"{claim.name}.nc")
        if rows:
            figures.save_page(claim.draw(data), out / f"{claim.name}.html", title=claim.title)
        say(f"{claim.name} {data.attrs['verdict']}: {claim.title}")
    report = write_report(out)
    if not measured:
        raise FileNotFoundError(
            f"nothing could be measured: no data set of {', '.join(c.name for c in claims)} is "
            "here; name their folder with --data-dir, or take --quick"
        )
    return report


def write_report(out: Path) -> Path:
    """Write ``report.md`` on every claim whose file is in ``out``."""
    there = {
        claim: open_dataset(path)
        for name, claim in CLAIMS.items()
        if (path := out / f"{name}.nc").exists()
    }
    target = out / "report.md"
    with beside(target) as scratch:
        scratch.write_text(report.markdown(there), encoding="utf-8")
    return target


def _measure(
    claim: Claim,
    cases: Sequence[Case],
    data_dir: str | os.PathLike[str] | None,
    journal: Journal,
    workers: int,
    say: Say,
) -> tuple[list[Row], list[str]]:
    """Return the rows of each case whose data are here, and what is missing."""
    missing: dict[str, str] = {}
    left = [case for case in cases if journal.find(case.settings()) is None]
    for case, rows_of in _each(left, claim.measure, data_dir, workers):
        try:
            journal.add(case.settings(), rows_of())
        except FileNotFoundError as error:
            assert case.data is not None
            missing[case.data.name] = str(error)
        else:
            say(f"{claim.name} " + ", ".join(f"{k} {v}" for k, v in case.labels.items()))
    for text in missing.values():
        say(f"{claim.name} leaves out: {text}")
    known = [journal.find(case.settings()) or [] for case in cases]
    return [row for rows in known for row in rows], list(missing)


def _each(
    cases: Sequence[Case],
    measure: Measure,
    data_dir: str | os.PathLike[str] | None,
    workers: int,
) -> Iterator[tuple[Case, Callable[[], list[Row]]]]:
    """Every case with a function that returns its rows; with workers, as they are measured."""
    if workers == 1 or not cases:
        yield from ((case, partial(load_and_measure, case, measure, data_dir)) for case in cases)
        return
    from distributed import Client, as_completed

    measured = partial(load_and_measure, measure=measure, data_dir=data_dir, threads=1)
    with cluster(None, workers) as address, Client(address) as client:
        futures = {client.submit(measured, case, pure=False): case for case in cases}
        for future in as_completed(futures):
            yield futures[future], future.result


def _described(
    data: xr.Dataset,
    claim: Claim,
    cases: Sequence[Case],
    size: str,
    seeds: int | None,
    missing: list[str],
) -> xr.Dataset:
    """With provenance and the verdict as attributes."""
    settings = {"claim": claim.name, "size": size, "seeds": seeds}
    options = ["--quick"] * (size == QUICK) + [f"--seeds {seeds}"] * (seeds is not None)
    findings = claim.judge(data) if data.variables else []
    attributes = root_attributes(
        seed=0, settings=settings, title=f"{claim.name}: {claim.title}", created=datetime.now(UTC)
    )
    return data.assign_attrs(
        attributes,
        size=size,
        command=" ".join(
            ["python -m toolkit reproduce", claim.name, "--data-dir FOLDER --out results", *options]
        ),
        machine=_machine(),
        missing=", ".join(missing),
        cases=json.dumps([case.settings() for case in cases]),
        verdict=overall_verdict(findings),
        findings="\n".join(map(str, findings)),
    )


def _machine() -> str:
    cores = os.cpu_count()
    return (
        f"{platform.system()}, {platform.machine()}, {cores} cores, "
        f"Python {platform.python_version()}"
    )


def _known(names: Sequence[str]) -> list[str]:
    if list(names) == ["all"]:
        return list(CLAIMS)
    for name in names:
        if name not in CLAIMS:
            raise ValueError(f"claim must be one of {', '.join(CLAIMS)} or all; got {name!r}")
    return list(names)
