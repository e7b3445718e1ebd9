"""The command line: runs that leave files, and bad input answered in one line."""

import os
import re
import socket
import subprocess
import sys

import pytest
import xarray as xr

from tests.processes import ROOT, toolkit
from toolkit.cli import main
from toolkit.crossbar import device_names, get_device
from toolkit.results import open_results

QUICK = ["--hidden", "8", "--epochs", "1"]


def test_train_writes_a_file_that_opens(tmp_path):
    given = ["--method", "sbpca", "--rank", "4", "--device", "Ag:a-Si", "--seed", "3"]
    done = toolkit("train", *given, *QUICK, "--out", "run.nc", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "22 steps, test accuracy" in done.stdout
    assert "saved run.nc" in done.stdout
    assert "Traceback" not in done.stderr
    tree = open_results(tmp_path / "run.nc")
    assert tree["training"].sizes["step"] == 22
    assert (tree.attrs["seed"], tree["training/rank"].values[0]) == (3, 4)
    assert tree["training/pulses"].values[-1] > 0
    with xr.open_datatree(tmp_path / "run.nc") as plain:
        assert "layer2" in plain["layers"].children


def test_train_shows_progress_on_a_terminal():
    termios, pty = pytest.importorskip("termios"), pytest.importorskip("pty")
    near, far = pty.openpty()
    termios.tcsetwinsize(far, (24, 100))
    command = [sys.executable, "-m", "toolkit", "train", *QUICK]
    with subprocess.Popen(command, cwd=ROOT, stdout=far, stderr=far) as process:
        os.close(far)
        shown = b""
        try:
            while part := os.read(near, 1024):
                shown += part
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(near)
    assert process.returncode == 0, shown
    assert b"100%" in shown
    assert b"loss=" in shown


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_main_trains_in_this_process(suffix, tmp_path, capsys):
    out = tmp_path / f"run{suffix}"
    assert main(["train", *QUICK, "--method", "svd", "--out", str(out)]) == 0
    assert open_results(out)["training"].sizes["evaluation_step"] == 1
    assert "test accuracy" in capsys.readouterr().out


def test_train_streams(tmp_path, capsys):
    out = tmp_path / "run.zarr"
    options = ["--hidden", "8", "--epochs", "1", "--record-every", "10"]
    assert main(["train", "--stream", "--out", str(out), *options]) == 0
    assert f"saved {out}" in capsys.readouterr().out
    tree = open_results(out)
    assert tree.attrs["complete"] == 1 and tree["training"].sizes["evaluation_step"] == 1
    assert main(["train", "--stream", *options]) == 2
    assert "stream needs --out" in capsys.readouterr().err
    assert main(["train", "--stream", "--out", str(tmp_path / "run.nc"), *options]) == 2
    assert "must end in .zarr" in capsys.readouterr().err


def test_the_same_command_gives_the_same_numbers(tmp_path):
    for name in ("a.nc", "b.nc"):
        arguments = ["train", *QUICK, "--device", "EpiRAM", "--out", str(tmp_path / name)]
        assert main(arguments) == 0
    first, second = (open_results(tmp_path / name) for name in ("a.nc", "b.nc"))
    xr.testing.assert_identical(first["layers/layer1"].ds, second["layers/layer1"].ds)


BAD = {
    "rank 0": (["train", "--rank", "0"], "rank must be a whole number, 1 to 512; got 0"),
    "rank above": (["train", "--rank", "66"], "rank=66 is above min(m, n) of every layer"),
    "rank text": (["train", "--rank", "four"], "rank must be a whole number, 1 to 512; got 'four'"),
    "rate text": (
        ["train", "--learning-rate", "x"],
        "learning_rate must be a finite number, above 0",
    ),
    "hidden text": (["train", "--hidden", "8,4"], "1 to 4096 each; got ['8,4']"),
    "no checkpoint": (["train", "--resume", __file__], "is damaged or not a checkpoint.\n"),
    "max runs": (["dashboard", "--max-runs", "0"], "max_runs must be at least 1; got 0"),
    "address": (["dashboard", "--address", "1.2.3.4.5"], "name another --address."),
    "notebooks": (["notebooks", "--out", __file__], "out must be a folder; got"),
    "batch": (["train", "--batch-size", "-1"], "batch_size must be a whole number, 1 to 4096"),
    "block": (["train", "--block-size", "65"], "block_size=65 is above batch_size=64"),
    "device": (["train", "--device", "stone"], "device must be one of digital, ideal"),
    "method": (["train", "--method", "adam"], "method must be one of"),
    "nan": (["train", "--learning-rate", "nan"], "learning_rate must be a finite number"),
    "levels": (["train", "--levels", "1"], "levels must be a whole number, 2 to 10000; got 1"),
    "hidden": (["train", "--hidden", "0"], "hidden must be a list of widths"),
    "epochs": (["train", "--epochs", "0"], "epochs must be at least 1; got 0"),
    "suffix": (["train", "--out", "run.txt"], "must end in .nc or .zarr"),
    "folder": (["train", "--out", "nowhere/run.nc"], "the folder 'nowhere' does not exist"),
    "option": (["train", "--momentum", "1"], "unrecognized arguments: --momentum 1"),
    "no value": (["train", "--rank"], "argument --rank: expected one argument"),
    "command": (["fly"], "invalid choice: 'fly'"),
    "nothing": ([], "the following arguments are required: COMMAND"),
    "port": (["dashboard", "--port", "70000"], "port must be between 0 and 65535; got 70000"),
    "port text": (["dashboard", "--port", "x"], "argument --port: invalid int value: 'x'"),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_status_2(arguments, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert text in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(tmp_path):
    arguments, text = BAD["rank 0"]
    ended = toolkit(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
    assert text in ended.stderr


def test_a_diverging_run_is_one_line_and_leaves_what_it_recorded(tmp_path, capsys):
    arguments = ["train", "--method", "sgd", "--learning-rate", "10", "--batch-size", "8"]
    out = tmp_path / "run.nc"
    assert main([*arguments, "--hidden", "128", "128", "128", "--out", str(out)]) == 1
    shown = capsys.readouterr()
    assert "diverged at step" in shown.err and shown.err.count("\n") == 1
    assert "saved" in shown.out
    assert open_results(out)["training"].sizes["step"] > 0


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    kept, whole, rest = (tmp_path / name for name in ("run.ckpt", "whole.nc", "rest.nc"))
    arguments = ["train", "--hidden", "8", "--device", "EpiRAM"]
    assert main([*arguments, "--epochs", "2", "--out", str(whole)]) == 0
    assert main([*arguments, "--epochs", "1", "--checkpoint", str(kept)]) == 0
    assert main(["train", "--resume", str(kept), "--epochs", "1", "--out", str(rest)]) == 0
    ends = [open_results(path)["training"].ds for path in (whole, rest)]
    xr.testing.assert_identical(*ends)
    assert main(["train", "--resume", str(kept), "--epochs", "1", "--rank", "2"]) == 0


def test_a_resumed_run_refuses_a_fixed_knob(tmp_path, capsys):
    kept = tmp_path / "run.ckpt"
    assert main(["train", *QUICK, "--checkpoint", str(kept)]) == 0
    assert main(["train", "--resume", str(kept), "--seed", "5"]) == 2
    assert "seed is fixed during a run" in capsys.readouterr().err


def test_a_missing_data_set_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SBPCA_DATA", "elsewhere")  # so that it is put back afterwards
    assert main(["train", "--dataset", "mnist", "--data-dir", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "train-images-idx3-ubyte.gz" in shown
    assert "SBPCA_DATA" in shown
    assert shown.count("\n") == 1


def test_devices_lists_every_preset(capsys):
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(device_names())
    for line, name in zip(lines[2:], device_names(), strict=True):
        device = get_device(name)
        assert line.startswith(f"{name} ")
        assert f"{device.g_max:.3g}" in line
        assert f"{device.levels_up:.0f}/{device.levels_down:.0f}" in line
        assert device.source in line
        for noise in ("cycle_to_cycle", "step_noise", "state_noise", "write_noise", "read_noise"):
            assert not getattr(device, noise) or f" {getattr(device, noise):.3g} " in line


def test_help_names_the_commands_and_the_knobs(capsys):
    for arguments, words in (
        (["--help"], ("dashboard", "train", "devices")),
        (["train", "--help"], ("--rank", "--device", "--read-noise", "--epochs", "--out")),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words)


def test_version(capsys):
    from toolkit import __version__

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_devices_plots_every_response(tmp_path, capsys):
    path = tmp_path / "devices.html"
    assert main(["devices", "--plot", str(path)]) == 0
    page = path.read_text()
    assert all(name in page for name in device_names())
    assert not re.search(r"<(script|link)[^>]+(src|href)=.https?://", page)  # opens offline
    assert main(["devices", "--plot", str(tmp_path / "devices.png")]) == 2
    assert "must be an .html path" in capsys.readouterr().err


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "toolkit", "dashboard", "--port", str(port)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert ended.stderr.count("\n") == 1
