"""The whole command in its smallest form: files, report, interruption, missing data."""

import subprocess
import sys
from dataclasses import replace

import pytest
import xarray as xr

import toolkit.reproduce
from tests.processes import ROOT
from toolkit.cli import main
from toolkit.reproduce import CLAIMS, reproduce, study
from toolkit.reproduce.study import Case, Data

SIZE = "smallest"


def test_all_claims_end_to_end(tmp_path):
    said: list[str] = []
    report = reproduce(["all"], out=tmp_path, size=SIZE, seeds=2, say=said.append)
    text = report.read_text(encoding="utf-8")
    for name, claim in CLAIMS.items():
        with xr.open_dataset(tmp_path / f"{name}.nc") as data:
            assert data.attrs["verdict"] in ("supported", "not supported", "mixed")
            assert data.attrs["Conventions"] == "CF-1.11"
            assert f"| {name} | {claim.title} | **{data.attrs['verdict']}** |" in text
            assert data.attrs["toolkit_version"] and data.attrs["torch_version"] in text
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "Bokeh" in page and '<script src="http' not in page  # self-contained
    assert "--seeds 2" in text and str(tmp_path) not in text
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
    reproduce(["all"], out=tmp_path, size=SIZE, seeds=2, say=said.append)
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.jsonl")} == before  # nothing anew


def tiny(data: str, rank: int) -> Case:
    return Case(
        {"task": f"{data} mlp", "method": "SBPCA", "rank": rank},
        Data(data, 100, 50),
        {"hidden": [8], "batch_size": 32},
        rates=(0.3,),
        seeds=2,
    )


@pytest.fixture
def small_claim(monkeypatch):
    """C1 with three cases, the second of them of a data set that is not here."""

    def plan(size: str) -> list[Case]:
        assert size == SIZE
        return [tiny("digits", 1), tiny("mnist", 1), tiny("digits", 2)]

    claim = replace(CLAIMS["C1"], plan=plan)
    monkeypatch.setitem(CLAIMS, "C1", claim)
    monkeypatch.delenv("SBPCA_DATA", raising=False)


@pytest.fixture
def measured(monkeypatch):
    """The cases that were measured, in order."""
    cases = []
    real = study.measure_case

    def spy(case, **rest):
        cases.append(case)
        return real(case, **rest)

    monkeypatch.setattr(study, "measure_case", spy)
    return cases


@pytest.mark.usefixtures("small_claim")
def test_missing_data_is_left_out_and_said(tmp_path, measured):
    said: list[str] = []
    report = reproduce(["C1"], out=tmp_path, size=SIZE, say=said.append)
    assert [case.data.name for case in measured] == ["digits", "digits"]
    assert any("leaves out: The data set mnist is not here" in line for line in said)
    assert "Left out, because the data set is not here: mnist." in report.read_text("utf-8")


def test_a_claim_without_any_data_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.delenv("SBPCA_DATA", raising=False)
    monkeypatch.setitem(CLAIMS, "C1", replace(CLAIMS["C1"], plan=lambda _size: [tiny("mnist", 1)]))
    with pytest.raises(FileNotFoundError, match=r"nothing could be measured: .* C1 is here; name"):
        reproduce(["C1"], out=tmp_path, size=SIZE, say=lambda _: None)
    assert "**not measured**" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("small_claim")
def test_an_interrupted_study_goes_on(tmp_path, measured, monkeypatch):
    real = study.measure_case

    def interrupted(case, **rest):
        if len(measured) == 1:
            raise KeyboardInterrupt
        return real(case, **rest)

    monkeypatch.setattr(study, "measure_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(["C1"], out=tmp_path, size=SIZE, say=lambda _: None)
    monkeypatch.setattr(study, "measure_case", real)
    reproduce(["C1"], out=tmp_path, size=SIZE, say=lambda _: None)
    assert [case.labels["rank"] for case in measured] == [1, 2]
    reproduce(["C1"], out=tmp_path, size=SIZE, seeds=1, say=lambda _: None)
    assert len(measured) == 4  # other settings: measured anew
    reproduce(["C1"], out=tmp_path, size=SIZE, seeds=1, fresh=True, say=lambda _: None)
    assert len(measured) == 6


def test_wrong_arguments(tmp_path, capsys):
    assert main(["reproduce", "C9", "--out", str(tmp_path)]) == 2
    assert "claim must be one of C1, C2" in capsys.readouterr().err
    assert main(["reproduce", "C2", "--seeds", "0", "--out", str(tmp_path)]) == 2
    assert "seeds must be 1 or more; got 0" in capsys.readouterr().err


def test_command_line(monkeypatch, capsys):
    calls = []

    def spy(names, **options):
        calls.append((names, options))
        return options["out"] / "report.md"

    monkeypatch.setattr(toolkit.reproduce, "reproduce", spy)
    assert main(["reproduce", "C1", "C5", "--quick", "--data-dir", "d", "--out", "o"]) == 0
    ((names, options),) = calls
    assert names == ["C1", "C5"]
    assert (options["size"], str(options["data_dir"]), options["fresh"]) == ("quick", "d", False)
    assert capsys.readouterr().out == "report: o/report.md\n"
    assert main(["reproduce"]) == 0
    assert calls[1][0] == ["all"] and calls[1][1]["size"] == "full"


def test_a_claim_draws_in_a_process_of_its_own(tmp_path):
    """Nothing else there has loaded a plotting library."""
    code = (
        "import sys, pathlib\n"
        "from toolkit.reproduce import reproduce\n"
        f"reproduce(['C5'], out=pathlib.Path({str(tmp_path)!r}), size={SIZE!r})"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert "bokeh" in (tmp_path / "C5.html").read_text(encoding="utf-8").lower()


@pytest.mark.usefixtures("small_claim")
def test_workers_measure_the_same(tmp_path):
    said: list[str] = []
    for name, workers in (("one", 1), ("two", 2)):
        reproduce(["C1"], out=tmp_path / name, size=SIZE, workers=workers, say=said.append)
    alone, together = (xr.open_dataset(tmp_path / name / "C1.nc") for name in ("one", "two"))
    xr.testing.assert_identical(alone.test_accuracy, together.test_accuracy)
    assert sum("leaves out: The data set mnist" in line for line in said) == 2
