"""``python -m toolkit fit``, and devices of one's own in the other commands."""

import json
import os

import pytest

from tests.fitting.laboratory import TABLES, write
from tests.fitting.test_tables import check_device
from toolkit.cli import main
from toolkit.crossbar import open_device
from toolkit.crossbar.devices import presets
from toolkit.results import open_results


@pytest.fixture
def own_devices(monkeypatch):
    """What the commands add to the list is taken off again."""
    monkeypatch.setattr(presets, "_DEVICES", dict(presets._DEVICES))
    monkeypatch.setenv(presets.DEVICES_VARIABLE, "")


def options(layout):
    """The options of the command that say what a table does not."""
    words = []
    for name in ("columns", "polarities"):
        if name in layout:
            words += [f"--{name}", *(f"{key}={value}" for key, value in layout[name].items())]
    for name in ("read_voltage", "unit"):
        if name in layout:
            words += [f"--{name.replace('_', '-')}", str(layout[name])]
    return words


@pytest.mark.parametrize("name", TABLES)
def test_a_laboratorys_table_on_the_command_line(name, tmp_path, capsys):
    table, out = TABLES[name], tmp_path / "mine.yaml"
    path = write(table, tmp_path)
    command = ["fit", str(path), "--out", str(out), "--model", "neurosim", *options(table.layout)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("read ") and table.said in said.splitlines()[0]
    assert said.count(table.said) == 1 and "levels_up" in said
    device = open_device(out)
    check_device(device)
    assert device.name == "table" and f"{path.name}, SHA-256" in device.source


def test_the_best_model_with_its_plot(tmp_path, capsys):
    path, plot = write(TABLES["plain"], tmp_path), tmp_path / "fit.html"
    assert main(["fit", str(path), "--plot", str(plot), "--name", "mine", "--robust"]) == 0
    said = capsys.readouterr().out
    assert "pow-step: the least AIC" in said and "mine: pow-step fitted to 1 cells" in said
    assert "<html" in plot.read_text() and '<script src="http' not in plot.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.csv"], "table must be a file"),
        (["{table}", "--out", "mine.txt"], "out must be a .yaml path"),
        (["{table}", "--plot", "mine.png"], "plot must be an .html path"),
        (
            ["{table}", "--columns", "pulse"],
            "columns must be pairs such as pulse=Puls; got 'pulse'",
        ),
        (["{table}", "--columns", "pulse=X"], "there is no column 'X' for pulse"),
        (["{table}", "--model", "poly"], "model must be one of neurosim"),
        (["{table}", "--range", "1", "0.5"], "conductance_range must be 0 < g_min < g_max"),
        (["{table}", "--read-voltage", "0"], "read_voltage must be above 0"),
        (["{table}", "--name", "EpiRAM"], "must have a name of its own; 'EpiRAM' is taken"),
        (["{table}", "--protocol", "0", "0"], "protocol must have a pulse up or down; got (0, 0)"),
    ],
)
def test_a_bad_option_is_one_line(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(TABLES["plain"], tmp_path)
    assert main(["fit", *(word.format(table=path) for word in words)]) == 2
    errors = capsys.readouterr().err
    assert said in errors and errors.count("\n") == 1


@pytest.mark.usefixtures("own_devices")
def test_a_fitted_device_trains_by_its_name_and_is_in_the_results(tmp_path, capsys):
    path, device = write(TABLES["plain"], tmp_path), tmp_path / "mine.yaml"
    main(["fit", str(path), "--model", "neurosim", "--name", "mine", "--out", str(device)])
    own = ["--devices", str(device)]
    assert main(["devices", *own]) == 0
    assert "\nmine " in capsys.readouterr().out
    run = ["train", *own, "--device", "mine", "--epochs", "1", "--hidden", "8"]
    assert main([*run, "--out", str(tmp_path / "run.nc")]) == 0
    settings = json.loads(open_results(tmp_path / "run.nc").attrs["settings"])
    assert settings["device"] == repr(open_device(device))
    assert os.environ[presets.DEVICES_VARIABLE] == str(device)


@pytest.mark.usefixtures("own_devices")
def test_a_device_with_a_presets_name_or_none_is_one_line(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("name: EpiRAM\ng_min: 1.0e-6\ng_max: 1.0e-5\n")
    assert main(["devices", "--devices", str(tmp_path / "a.yaml")]) == 2
    (tmp_path / "b.yaml").write_text(
        "name: EpiRAM\ng_min: 1e-6\ng_max: 1e-5\nlevels_up: 9\nlevels_down: 9\n"
    )
    assert main(["devices", "--devices", str(tmp_path / "b.yaml")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "a.yaml holds no device" in first and "'EpiRAM' is taken" in second


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2.5\n2,3.5\n", "say which, as in --columns conductance=..."),
        ("pulse,G,G\n1,2.5,3\n2,3.5,4\n", "--columns conductance='G'"),
        ("pulse,I (nA)\n1,2.5\n2,3.5\n", "--read-voltage 0.1, or a column such as 'V_read (V)'"),
        ("pulse,G\n1,2.5\n2,3.5\n", "as in the header conductance_uS or --unit uS"),
        ("polarity,G\n1,2.5\n0,3\n0,2\n0,1\n", "--polarities 1=up 0=down"),
        ("n,G\n" + "".join(f"{i},{1e-6 * (1 + i % 7)}\n" for i in range(40)), "--protocol UP DOWN"),
    ],
)
def test_the_command_speaks_of_its_options(text, said, tmp_path, capsys):
    (tmp_path / "table.csv").write_text(text)
    main(["fit", str(tmp_path / "table.csv")])
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


@pytest.mark.usefixtures("own_devices")
def test_two_devices_of_one_name_are_refused(tmp_path, capsys):
    first, other = tmp_path / "first.yaml", tmp_path / "other.yaml"
    text = "name: cell\ng_min: 1e-6\ng_max: 1e-5\nlevels_up: 50\nlevels_down: "
    first.write_text(text + "50")
    other.write_text(text + "60")
    assert main(["devices", "--devices", str(first), str(first)]) == 0
    assert main(["devices", "--devices", str(first), str(other)]) == 2
    assert "devices must have one device of each name; got two 'cell'" in capsys.readouterr().err
