"""Every command against hostile files and values: one line, status 1 or 2, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.processes import ROOT, toolkit
from toolkit.cli import main
from toolkit.results import open_results

TRAIN = ["train", "--dataset", "gaussians", "--hidden", "4", "--rank", "1", "--epochs", "1"]
PLAN = "grid: {rank: 1, dataset: gaussians, hidden: [4]}"

PLANS = {
    "empty": b"",
    "bytes": bytes(range(256)) * 20,
    "nul": b"grid: {rank: [1]}\0",
    "latin": b"grid: {rank: [1]} # \xff\xfe",
    "brackets": b"[" * 20_000,
    "levels": b"grid: {rank: " + b"[" * 5000 + b"]" * 5000 + b"}",
    "runs": b"grid: {rank: %(a)s, batch_size: %(a)s, block_size: %(a)s}"
    % {b"a": json.dumps(list(range(1, 500))).encode()},
    "date": b"grid: {rank: 2001-01-01}",
    "infinite": b"grid: {learning_rate: [.inf, .nan]}",
    "epochs": b"grid: {rank: 1}\nepochs: two",
    "ages": b"grid: {rank: 1}\nepochs: 1000000000000000",
    "kinds": b"grid: {rank: 1}\n1: 2\nx: 3",
    "keys": b"grid: {1: 2, null: 3}",
    "seeds": b"grid: {rank: 1}\nseeds: [[1]]",
    "list": b"- a",
    "digits": b"grid: {rank: " + b"9" * 5000 + b"}",
    "tag": b"grid: !!python/object/apply:os.system ['true']",
    "alias": b"a: &a [1]\ngrid: {rank: *a}",
}
# What stands where a file or a folder is expected.
PLACES = ("missing", "folder", "pipe", "loop", "nothing", "/dev/null", "none/x", "x" * 300)
VALUES = ("nan", "inf", "-1", "0", "9" * 400, "10000000000000000000000", "x", "", "x" * 5000)
NUMBERS = ("seed", "rank", "batch-size", "block-size", "learning-rate", "w-max", "bit-length")
NAMES = ("method", "device", "dataset", "model", "coding", "scheme", "pair", "core", "torch-device")

COMMANDS: list[list[str]] = [
    *(["sweep", f"{name}.yaml", "--out", "s.zarr"] for name in PLANS),
    *(["sweep", place, "--out", "s.zarr"] for place in PLACES),
    *(["sweep", "good.yaml", "--out", place] for place in (*PLACES, "s.nc", "file.zarr")),
    *(
        ["sweep", "good.yaml", "--out", "s.zarr", "--workers", value]
        for value in ("0", "-1", "x", "9" * 20)
    ),
    *([*TRAIN, "--resume", place] for place in PLACES),
    *([*TRAIN, "--out", place] for place in (*PLACES, "none/x.nc", "dir.nc", "a\0.nc")),
    *([*TRAIN, "--stream", "--out", place] for place in ("x.nc", "file.zarr", "none/x.zarr")),
    *([*TRAIN, "--checkpoint", place] for place in ("folder", "none/x", "x" * 300, "pipe", "loop")),
    [*TRAIN, "--checkpoint", "a.nc", "--out", "a.nc"],
    [*TRAIN, "--threads", "9" * 30],
    *([*TRAIN, option, "/proc/x.nc"] for option in ("--out", "--checkpoint")),
    *(["sweep", "good.yaml", "--out", "s.zarr", "--scheduler", place] for place in ("x", "a b")),
    *([*TRAIN, f"--{knob}", value] for knob in NUMBERS for value in VALUES[:3]),
    *([*TRAIN, f"--{knob}", value] for knob in ("rank", "seed") for value in VALUES[4:]),
    *([*TRAIN, f"--{knob}", value] for knob in NAMES for value in VALUES[6:]),
    [*TRAIN, "--device", "ideal", "--coding", "coincidence", "--scheme", "rank-sum"],
    [*TRAIN, "--stream"],
    *(["train", "--dataset", "mnist", "--data-dir", place] for place in ("folder", "pipe", "loop")),
    *(["dashboard", "--port", value] for value in ("nan", "-1", "99999", "")),
    *(["dashboard", "--port", "0", "--max-runs", value] for value in ("0", "-1", "x")),
    *(["dashboard", "--port", "0", "--password-file", place] for place in PLACES[:5]),
    *(["dashboard", "--port", "0", "--prefix", value] for value in ("../x", "a b", "a/./b")),
    *(["dashboard", "--port", "0", "--origin", value] for value in ("*", "http://x", "a b", ":")),
    *(["reproduce", *rest] for rest in (["C9"], ["C1", "--seeds", "0"], ["C1", "--threads", "0"])),
    *(["reproduce", "C1", "--out", place] for place in ("nothing", "pipe")),
    *(["notebooks", "--out", place] for place in ("nothing", "pipe")),
    *(
        ["devices", "--plot", place]
        for place in ("x.txt", "none/x.html", "folder", "dir.nc", "dir.html", "pipe.html")
    ),
    ["--bad"],
    ["train", "extra"],
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SBPCA_DATA", "folder")  # put back afterwards
    for name in ("folder", "dir.nc", "dir.html"):
        Path(name).mkdir()
    for name in ("nothing", "file.zarr"):
        Path(name).touch()
    os.mkfifo("pipe")
    os.mkfifo("pipe.html")
    Path("loop").symlink_to("loop")
    Path("good.yaml").write_text(PLAN)
    for name, data in PLANS.items():
        Path(f"{name}.yaml").write_bytes(data)
    return tmp_path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")
    }


@pytest.mark.timeout(30)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c).replace("\0", "?")[:80])
def test_what_is_hostile_is_one_line_and_changes_nothing(
    command: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, threads = listing(here), torch.get_num_threads()
    try:
        status = main(command)
    except SystemExit as ended:
        status = int(str(ended.code))
    torch.set_num_threads(threads)
    shown = capsys.readouterr()
    assert (status, shown.out) == (2, "")
    assert shown.err.count("\n") == 1 and len(shown.err) < 1000
    assert listing(here) == before


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (["--out", "run.nc"], 5000),
        (["--out", "run.zarr"], 500),
        (["--stream", "--out", "run.zarr"], 500),
        (["--checkpoint", "run.sbpca"], 5000),
        (["--checkpoint", "run.sbpca", "--out", "run.nc"], 5000),
    ],
)
def test_a_full_disk_keeps_what_was_there(tmp_path, options, limit):
    first = [str(tmp_path / option) if "." in option else option for option in options]
    assert main([*TRAIN, *first]) == 0
    before = listing(tmp_path)
    ended = toolkit(*TRAIN, *options, cwd=tmp_path, limit=limit)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "File too large" in ended.stderr
    assert listing(tmp_path) == before
    for path in tmp_path.glob("run.[nz]*"):
        assert open_results(path, lazy=False).attrs["schema_version"]
    for path in tmp_path.glob("run.sbpca"):
        assert main(["train", "--resume", str(path), "--epochs", "1"]) == 0


def test_a_sweep_on_a_full_disk_keeps_its_runs(tmp_path):
    (tmp_path / "plan.yaml").write_text(PLAN)
    sweep = ["sweep", "plan.yaml", "--out", "s.zarr", "--workers", "1"]
    ended = toolkit(*sweep, cwd=tmp_path, limit=100)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert not (tmp_path / "s.zarr").exists()


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("command", [["train", "--epochs", "1000"], ["dashboard", "--port", "0"]])
def test_ctrl_c_is_quiet_at_any_moment(command, seconds):
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit", *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    # the shell shows a process that a signal ended as 130, too; a server that was told to stop: 0
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert "Traceback" not in said and "terminate" not in said
