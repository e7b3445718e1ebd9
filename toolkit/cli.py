"""The command line: ``python -m toolkit dashboard``, ``train``, ``sweep`` and others.

Options come from the declarations of the knobs. Bad input gives one line on standard error and exit
status 2, never a traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

MOST_THREADS = 1024
_NOISES = ("cycle_to_cycle", "step_noise", "state_noise", "write_noise", "read_noise")


class _Parser(argparse.ArgumentParser):
    """A parser that reports each error in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {shorten(message, 300)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for bad input, 1 for a failed run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _add_devices(_own_devices().parse_known_args(arguments)[0].devices)
    except (ValueError, OSError) as error:
        return _fail(error, status=2)
    options = vars(_parser().parse_args(arguments))
    run = options.pop("run")
    options.pop("devices", None)  # they are in the list by now
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say  # type: ignore[assignment]
            return run(**options)
    except (ValueError, TypeError, OSError) as error:
        return _fail(error, status=2)
    except ArithmeticError as error:
        return _fail(error, status=1)
    except KeyboardInterrupt:
        return 130


def _say(message: Exception | str, *_: Any) -> None:
    """Print one line on standard error."""
    print(f"python -m toolkit: {' '.join(str(message).split())}", file=sys.stderr)


def _fail(error: Exception, *, status: int) -> int:
    _say(error)
    return status


def _own_devices() -> _Parser:
    """The option of all commands that know devices by name."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--devices",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="devices of your own, as fit --out writes them: known by their names from here on",
    )
    return parser


def _add_devices(paths: Sequence[Path]) -> None:
    """Put the devices of YAML files into the list."""
    if not paths:
        return
    from toolkit.crossbar import add_device, open_device
    from toolkit.crossbar.devices.presets import DEVICES_VARIABLE

    found: dict[str, Any] = {}
    for path in paths:
        device = open_device(path)
        if found.setdefault(device.name, device) != device:
            raise ValueError(f"devices must have one device of each name; got two {device.name!r}")
        add_device(device)
    os.environ[DEVICES_VARIABLE] = os.pathsep.join(str(path.resolve()) for path in paths)


def _parser() -> argparse.ArgumentParser:
    from toolkit import __version__
    from toolkit.budget.command import add_budget
    from toolkit.training.experiment.knobs import add_arguments
    from toolkit.training.experiment.settings import Settings

    parser = _Parser(prog="python -m toolkit", description="Low-rank training on crossbars.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    dashboard = commands.add_parser(
        "dashboard", parents=[_own_devices()], help="serve the live dashboard"
    )
    dashboard.add_argument("--port", type=int, default=5006, help="port to listen on (5006)")
    dashboard.add_argument("--address", default="127.0.0.1", help="address to bind (127.0.0.1)")
    dashboard.add_argument(
        "--prefix", default="", help="path under which a reverse proxy serves the pages"
    )
    dashboard.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="another host name of the pages, such as a proxy's",
    )
    dashboard.add_argument(
        "--max-runs", type=int, default=8, help="most runs that train at the same time (8)"
    )
    dashboard.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="ask visitors for the password in the first line of this file",
    )
    dashboard.add_argument(
        "--tour", type=Path, metavar="FILE", help="show this tour (YAML) in the Playground"
    )
    dashboard.add_argument(
        "--runs", type=Path, metavar="DIR", help="list the runs saved there on the Results page"
    )
    dashboard.add_argument(
        "--ready", type=int, default=1, help="pages made ahead, for a class that opens at once (1)"
    )
    dashboard.add_argument("--show", action="store_true", help="open the page in a browser")
    dashboard.set_defaults(run=_dashboard)

    train = commands.add_parser(
        "train", parents=[_own_devices()], help="train one network and save its results"
    )
    train.add_argument("--epochs", type=int, default=10, help="passes over the training set (10)")
    train.add_argument("--out", type=Path, help="where to write the run: .nc or .zarr")
    train.add_argument(
        "--stream",
        action="store_true",
        help="write to --out (.zarr) during the run, so that little is lost if it is killed",
    )
    train.add_argument(
        "--data-dir", type=Path, help="folder of published data sets (or SBPCA_DATA)"
    )
    train.add_argument(
        "--download", action="store_true", help="let scikit-learn fetch the data set from OpenML"
    )
    train.add_argument(
        "--checkpoint", type=Path, help="file for the run's complete state, written every epoch"
    )
    train.add_argument(
        "--resume",
        type=Path,
        help="continue from such a file for --epochs more; live knobs can change",
    )
    train.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads; small layers are fastest on one (1)",
    )
    add_arguments(train, Settings)
    train.set_defaults(run=_train)

    _add_fit(commands)
    _add_sweep(commands)
    _add_reproduce(commands)

    notebooks = commands.add_parser("notebooks", help="copy the tutorial notebooks to a folder")
    notebooks.add_argument("--out", type=Path, required=True, help="destination folder")
    notebooks.add_argument("--force", action="store_true", help="overwrite changed copies")
    notebooks.add_argument(
        "--html", action="store_true", help="run all notebooks and write them as HTML pages"
    )
    notebooks.add_argument(
        "--pack",
        action="store_true",
        help="write the teacher's pack: slides, hand-out, solutions, questions, plan, lab sheet",
    )
    notebooks.set_defaults(run=_notebooks)

    add_budget(commands, _own_devices())
    devices = commands.add_parser(
        "devices", parents=[_own_devices()], help="list the device presets"
    )
    devices.add_argument("--plot", type=Path, help="save the response curves as an .html page")
    devices.set_defaults(run=_devices)

    loops = commands.add_parser("compile", help="compile the inner loops ahead of first use")
    loops.set_defaults(run=_compile)
    return parser


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser("fit", help="fit a device to a measured table of pulse trains")
    fit.add_argument("table", type=Path, help="text or .xlsx: conductance, current or resistance")
    fit.add_argument("--out", type=Path, help="where to write the device (.yaml)")
    fit.add_argument("--plot", type=Path, help="save readings, fit and residuals as an .html page")
    fit.add_argument("--model", default="best", help="a model, or best: compare them all (best)")
    fit.add_argument("--name", help="of the device (the file's)")
    fit.add_argument(
        "--range", type=float, nargs=2, metavar=("G_MIN", "G_MAX"), help="siemens (the readings')"
    )
    fit.add_argument("--robust", action="store_true", help="leave out readings that stand alone")
    fit.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="ROLE=HEADER",
        help="which column is what, as in conductance='Leitwert (uS)' pulse=Puls",
    )
    fit.add_argument("--read-voltage", type=float, metavar="V", help="at which currents were read")
    fit.add_argument("--unit", help="of the readings where the header has none: uS, nA, kOhm")
    fit.add_argument(
        "--polarities", nargs="+", metavar="FIELD=up", help="what polarity says, as in 1=up 0=down"
    )
    fit.add_argument(
        "--protocol", type=int, nargs=2, metavar=("UP", "DOWN"), help="pulses of a cycle"
    )
    fit.set_defaults(run=_fit)


def _add_sweep(commands: Any) -> None:
    runs = commands.add_parser(
        "sweep", parents=[_own_devices()], help="train every combination of a grid of knobs"
    )
    runs.add_argument("plan", type=Path, help="YAML file: grid, seeds, epochs")
    runs.add_argument(
        "--out", type=Path, required=True, help=".zarr store; runs already in it are skipped"
    )
    runs.add_argument("--workers", type=int, help="number of processes (one per processor)")
    runs.add_argument("--scheduler", metavar="ADDRESS", help="use this Dask scheduler instead")
    runs.add_argument("--data-dir", type=Path, help="folder of published data sets (or SBPCA_DATA)")
    runs.set_defaults(run=_sweep)


def _add_reproduce(commands: Any) -> None:
    study = commands.add_parser(
        "reproduce",
        parents=[_own_devices()],
        help="test the papers' claims, and which algorithm suits which cell",
    )
    study.add_argument(
        "claims",
        nargs="*",
        default=["all"],
        metavar="CLAIM",
        help="C1 ... C8, atlas (all); the atlas takes --devices in, too",
    )
    study.add_argument("--data-dir", type=Path, help="folder of published data sets")
    study.add_argument("--out", type=Path, default=Path("results"), help="output folder (results)")
    study.add_argument("--quick", action="store_true", help="small parts of the data, few epochs")
    study.add_argument("--seeds", type=int, help="runs per case (set by each claim)")
    study.add_argument("--fresh", action="store_true", help="repeat existing measurements")
    study.add_argument("--threads", type=int, default=1, help="torch threads (1)")
    study.add_argument("--workers", type=int, default=1, help="processes, on Dask (1)")
    study.set_defaults(run=_reproduce)


def _dashboard(*, port: int, address: str, **options: Any) -> int:
    from dashboards.app.serve import serve
    from dashboards.playground.tour import read_tour
    from toolkit.checks import check_count

    check_count("port", port, 0, 65535)
    check_count("max_runs", options["max_runs"])
    check_count("ready", options["ready"], 0, 100)
    if options["tour"] is not None:
        read_tour(options["tour"])
    if (runs := options["runs"]) is not None and not runs.is_dir():
        raise ValueError(f"runs must be a folder; got {str(runs)!r}")
    try:
        serve(port=port, address=address, **options)
    except OSError as error:
        reason = error.strerror or error
        other = "--address" if isinstance(error, socket.gaierror) else "--port"
        raise OSError(
            f"cannot listen on {address}:{port}: {reason}; name another {other}."
        ) from error
    return 0


def _train(
    *,
    epochs: int,
    out: Path | None,
    stream: bool,
    threads: int,
    checkpoint: Path | None,
    **rest: Any,
) -> int:
    import torch

    from toolkit.checks import check_count
    from toolkit.writing import check_target

    _check_out(out)
    if checkpoint is not None:
        check_target(checkpoint)
        if out is not None and os.path.realpath(checkpoint) == os.path.realpath(out):
            raise ValueError(f"checkpoint must be another path than out; got {str(out)!r} for both")
    if stream and out is None:
        raise ValueError("stream needs --out, a path that ends in .zarr.")
    check_count("epochs", epochs)
    check_count("threads", threads, 1, MOST_THREADS)
    torch.set_num_threads(threads)
    run = _new_or_resumed(**rest)
    try:
        with run.stream(out) if stream else nullcontext():
            for _ in range(epochs):
                _train_an_epoch(run)
                if checkpoint is not None:
                    run.checkpoint(checkpoint)
    finally:  # diverged and interrupted runs are saved as well
        if out is not None and run.step_count:
            print(f"saved {out if stream else run.save(out)}")
    print(f"{run.step_count} steps, test {_last_fit(run)}, {run.pulses} pulses written")
    return 0


def _new_or_resumed(
    *, data_dir: Path | None, download: bool, resume: Path | None, **knobs: Any
) -> Any:
    """Create a run, or resume one from a checkpoint with these live knobs changed."""
    from toolkit.training import Experiment, load_dataset
    from toolkit.training.data.datasets import DATA_DIR_VARIABLE
    from toolkit.training.experiment.checkpoint import load_checkpoint

    if data_dir is not None:
        os.environ[DATA_DIR_VARIABLE] = str(data_dir)
    if resume is None:
        knobs = _with_own_device(knobs)
        if download:
            name = knobs.get("dataset", Experiment.param["dataset"].default)
            knobs["dataset"] = load_dataset(name, download=True)
        return Experiment(**knobs)
    name = load_checkpoint(resume)["objects"].get("dataset")
    fetched = {"dataset": load_dataset(name, download=True)} if download and name else {}
    run = Experiment.resume(resume, **fetched)
    run.change(**knobs)
    return run


def _with_own_device(knobs: dict[str, Any]) -> dict[str, Any]:
    """The device itself in place of its name if it is no preset: results then hold its numbers."""
    from toolkit.crossbar.devices.presets import device_names, get_device, is_preset

    name = knobs.get("device", "")
    is_own = name in device_names() and not is_preset(name)
    return knobs | {"device": get_device(name)} if is_own else knobs


def _train_an_epoch(run: Any) -> None:
    from tqdm import tqdm

    batches = -(-run.samples_per_epoch // run.batch_size)  # the last batch is full, too
    title = f"epoch {int(run.epoch) + 1}"
    with tqdm(
        total=batches * run.batch_size, desc=title, unit="sample", unit_scale=True, disable=None
    ) as bar:
        for record in run.steps(epochs=1):
            bar.update(record.batch_size)
            if record.step % 20 == 0:
                bar.set_postfix_str(f"loss={record.loss:.3f}, {_last_fit(run)}")


def _sweep(*, plan: Path, out: Path, data_dir: Path | None, **options: Any) -> int:
    from toolkit.training import read_plan, sweep
    from toolkit.training.data.datasets import DATA_DIR_VARIABLE

    if data_dir is not None:
        os.environ[DATA_DIR_VARIABLE] = str(data_dir.resolve())  # workers inherit it
    found = sweep(read_plan(plan), out=out, **options)
    errors = [text for text in found.error.values.ravel().tolist() if text]
    for text in dict.fromkeys(errors):
        print(f"failed: {text}", file=sys.stderr)
    print(f"{found.error.size} runs, {len(errors)} of them failed; saved {out}")
    return int(len(errors) == found.error.size)


def _reproduce(*, claims: list[str], quick: bool, threads: int, out: Path, **options: Any) -> int:
    import torch

    from toolkit.checks import check_count
    from toolkit.reproduce import reproduce

    check_count("threads", threads, 1, MOST_THREADS)
    torch.set_num_threads(threads)
    size = "quick" if quick else "full"
    print(f"report: {reproduce(claims, out=out, size=size, **options)}")
    return 0


def _notebooks(*, out: Path, force: bool, html: bool, pack: bool) -> int:
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder; got {str(out)!r}, which is not one")
    if html and pack:
        raise ValueError("html and pack are two calls: give one of them")
    if pack:
        from toolkit.teaching.pack import write_pack

        write_pack(out)
        print(f"teacher's pack: {out / 'index.html'}")
        return 0
    if html:
        from toolkit.teaching.pages import render
        from toolkit.teaching.series import notebooks

        print(f"{len(render(notebooks(), out))} pages: {out / 'index.html'}")
        return 0
    from toolkit.teaching.series import copy_series

    print(f"{len(copy_series(out, force=force))} files copied to {out}")
    return 0


def _check_out(out: Path | None) -> None:
    """Reject an impossible path before training instead of after it."""
    from toolkit.results.files import check_path
    from toolkit.writing import check_target

    if out is not None:
        check_path(out)
        if not out.is_dir():
            check_target(out)


def _last_fit(run: Any) -> str:
    found = run.record.evaluations
    return f"accuracy {found[-1, 2]:.1%}" if len(found) else "accuracy not yet"


def _devices(*, plot: Path | None) -> int:
    from toolkit.crossbar import device_names, get_device

    _check_plot(plot)
    devices = [get_device(name) for name in device_names()]
    _print_table(devices)
    if plot is not None:
        from toolkit.plots import response_curves

        curves = response_curves({device.name: _trace(device) for device in devices})
        _save_page(plot, curves, "Device responses")
    return 0


def _fit(
    *,
    table: Path,
    out: Path | None,
    plot: Path | None,
    model: str,
    name: str | None,
    range: list[float] | None,
    robust: bool,
    **layout: Any,
) -> int:
    from toolkit.checks import check_file
    from toolkit.crossbar.devices.presets import check_own_name
    from toolkit.fitting import PulseTrains, fit_device
    from toolkit.fitting.fit import with_origin
    from toolkit.writing import check_target

    if out is not None:
        if out.suffix not in (".yaml", ".yml"):
            raise ValueError(f"out must be a .yaml path; got {str(out)!r}")
        check_target(out)
    _check_plot(plot)
    check_own_name("the device (--name)", name or table.stem)
    layout["columns"] = _pairs("columns", layout["columns"])
    layout["polarities"] = layout["polarities"] and _pairs("polarities", layout["polarities"])
    layout["protocol"] = layout["protocol"] and tuple(layout["protocol"])
    data = check_file("table", table).read_bytes()
    try:
        trains = PulseTrains.from_csv(table, **layout)
        trains = trains if robust else trains.with_outliers_said()
        print(_as_options(trains.understood), flush=True)
        bounds = (range[0], range[1]) if range else None
        fit = fit_device(
            trains, model=model, name=name or table.stem, conductance_range=bounds, robust=robust
        )
    except ValueError as error:
        raise ValueError(_as_options(str(error))) from error
    fit = with_origin(fit, table.name, data)
    print(_as_options(fit.summary().removeprefix(trains.understood).lstrip("\n; ")))
    if out is not None:
        fit.save(out)
        print(f"saved {out}")
    if plot is not None:
        from toolkit.plots.devices import fit_curve, fit_residuals

        _save_page(plot, fit_curve(trains, fit) + fit_residuals(fit), fit.device.name)
    return 0


def _as_options(text: str) -> str:
    """What a message says of Python's arguments, as options of the command."""
    for pattern, option in (
        (r"columns=\{'(\w+)': ('[^']*'|\"[^\"]*\"|\.\.\.)\}", r"--columns \1=\2"),
        (r"polarities=\{1: 'up', 0: 'down'\}", "--polarities 1=up 0=down"),
        (r"protocol=\(pulses up, pulses down\)", "--protocol UP DOWN"),
        (r"\bread_voltage=", "--read-voltage "),
        (r"\bunit='(\w+)'", r"--unit \1"),
        (r"\brobust=True", "--robust"),
        (r"\bpair='one-sided'", "--pair one-sided"),
    ):
        text = re.sub(pattern, option, text)
    return text


def _pairs(option: str, words: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping."""
    pairs = [word.partition("=") for word in words]
    if wrong := [word for word, (_, sign, _) in zip(words, pairs, strict=True) if not sign]:
        raise ValueError(f"{option} must be pairs such as pulse=Puls; got {wrong[0]!r}")
    return {name: value for name, _, value in pairs}


def _check_plot(plot: Path | None) -> None:
    from toolkit.writing import check_target

    if plot is not None:
        if plot.suffix != ".html" or not plot.parent.is_dir():
            raise ValueError(f"plot must be an .html path in a folder that exists; got {plot}")
        check_target(plot)


def _save_page(path: Path, figure: Any, title: str) -> None:
    """A figure as an HTML page that needs no network."""
    import holoviews as hv
    from bokeh.embed import file_html
    from bokeh.resources import INLINE

    from toolkit.writing import beside

    with beside(path) as scratch:
        scratch.write_text(file_html(hv.render(figure), INLINE, title=title), encoding="utf-8")
    print(f"saved {path}")


def _compile() -> int:
    from toolkit.compiling import compile_loops

    print("Compiling the inner loops (half a minute, once)", flush=True)
    compile_loops()
    return 0


def _trace(device: Any) -> tuple[int, int, Any]:
    device.check_pulsed()
    up, down = round(device.levels_up), round(device.levels_down)
    return up, down, device.trace(up=up, down=down).numpy()


def _print_table(devices: list[Any]) -> None:
    from toolkit.crossbar.devices.parameter import about

    noises = {name: about(devices[0])[name] for name in _NOISES}
    heads = ("response", "G_min", "G_max", "levels", "nonlinearity")
    names = (*heads, *(one.label for one in noises.values()))
    units = ("", "S", "S", "up/down", "up/down", *(one.unit for one in noises.values()))
    print(f"{'device':<16}" + "".join(f"{name:>15}" for name in names) + "  source")
    print(f"{'':<16}" + "".join(f"{unit:>15}" for unit in units))
    for device in devices:
        labels = [getattr(device, f"nonlinearity_{way}", None) for way in ("up", "down")]
        cells = (
            type(device.response).__name__,
            f"{device.g_min:.3g}",
            f"{device.g_max:.3g}",
            f"{device.levels_up:.0f}/{device.levels_down:.0f}",
            "-" if None in labels else "/".join(f"{label:g}" for label in labels),
            *(f"{value:.3g}" if (value := getattr(device, name)) else "-" for name in noises),
        )
        print(
            f"{device.name:<16}" + "".join(f"{cell:>15}" for cell in cells) + f"  {device.source}"
        )
