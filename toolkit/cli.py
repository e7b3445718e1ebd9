"""The command line: ``python -m toolkit dashboard | train | devices``.

Options come from the knobs' own declarations. A bad value is one line on standard error and exit
status 2, never a traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 1 for a failed run."""
    options = vars(_parser().parse_args(arguments))
    run = options.pop("run")
    try:
        return run(**options)
    except (ValueError, TypeError, OSError) as error:
        return _fail(error, status=2)
    except ArithmeticError as error:
        return _fail(error, status=1)
    except KeyboardInterrupt:
        return 130


def _fail(error: Exception, *, status: int) -> int:
    print(f"python -m toolkit: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    from toolkit import __version__
    from toolkit.training.knobs import add_arguments
    from toolkit.training.settings import Settings

    parser = _Parser(prog="python -m toolkit", description="Low-rank training on crossbars.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    dashboard = commands.add_parser("dashboard", help="serve the live dashboard")
    dashboard.add_argument("--port", type=int, default=5006, help="port to listen on (5006)")
    dashboard.add_argument("--address", default="127.0.0.1", help="address to bind (127.0.0.1)")
    dashboard.add_argument("--show", action="store_true", help="open a browser at the page")
    dashboard.set_defaults(run=_dashboard)

    train = commands.add_parser("train", help="train one network and save what was measured")
    train.add_argument("--epochs", type=int, default=10, help="passes over the training set (10)")
    train.add_argument("--out", type=Path, help="where to write the run: .nc or .zarr")
    train.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads; layers this small run best on one (1)",
    )
    add_arguments(train, Settings)
    train.set_defaults(run=_train)

    devices = commands.add_parser("devices", help="list the device presets")
    devices.add_argument("--plot", type=Path, help="save the response curves as an .html page")
    devices.set_defaults(run=_devices)
    return parser


def _dashboard(*, port: int, address: str, show: bool) -> int:
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be between 0 and 65535, not {port}.")
    from dashboards.serve import serve

    try:
        serve(port=port, address=address, show=show)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"cannot listen on {address}:{port}: {reason}; name another --port."
        ) from error
    return 0


def _train(*, epochs: int, out: Path | None, threads: int, **knobs: Any) -> int:
    import torch
    from tqdm import tqdm

    from toolkit.training import Experiment

    _check_out(out)
    if threads < 1:
        raise ValueError(f"threads must be 1 or more; got {threads}.")
    torch.set_num_threads(threads)
    run = Experiment(**knobs)
    batches = -(-epochs * run.samples_per_epoch // run.batch_size)  # the last one is whole too
    total = batches * run.batch_size
    with tqdm(total=total, unit="sample", unit_scale=True, disable=None) as bar:
        for record in run.steps(epochs=epochs):
            bar.update(record.batch_size)
            if record.step % 20 == 0:
                bar.set_postfix(loss=f"{record.loss:.3f}", accuracy=_last_accuracy(run))
    print(
        f"{run.step_count} steps, test accuracy {_last_accuracy(run)}, {run.pulses} pulses written"
    )
    if out is not None:
        print(f"saved {run.save(out)}")
    return 0


def _check_out(out: Path | None) -> None:
    """Refuse an impossible path before the training, not after it."""
    from toolkit.results.files import check_path

    if out is not None:
        check_path(out)


def _last_accuracy(run: Any) -> str:
    found = run.history.evaluations
    return f"{found[-1, 2]:.1%}" if len(found) else "not yet"


def _devices(*, plot: Path | None) -> int:
    from toolkit.crossbar import device_names, get_device
    from toolkit.results.files import beside

    devices = [get_device(name) for name in device_names()]
    _print_table(devices)
    if plot is not None:
        import holoviews as hv
        from bokeh.embed import file_html
        from bokeh.resources import INLINE

        from toolkit.plots import response_curves

        if plot.suffix != ".html" or not plot.parent.is_dir():
            raise ValueError(f"plot must be an .html path in a folder that exists; got {plot}.")
        curves = response_curves({device.name: _trace(device) for device in devices})
        with beside(plot) as scratch:
            scratch.write_text(file_html(hv.render(curves), INLINE, title="Device responses"))
        print(f"saved {plot}")
    return 0


def _trace(device: Any) -> tuple[int, int, Any]:
    up, down = round(device.levels_up), round(device.levels_down)
    return up, down, device.trace(up=up, down=down).numpy()


def _print_table(devices: list[Any]) -> None:
    from toolkit.crossbar import Exponential

    columns = (
        "response",
        "g_min",
        "g_max",
        "levels",
        "nonlinearity",
        "cycle-to-cycle",
        "read noise",
    )
    units = ("", "S", "S", "up/down", "up/down", "of range", "of current")
    print(f"{'device':<16}" + "".join(f"{name:>15}" for name in columns) + "  source")
    print(f"{'':<16}" + "".join(f"{unit:>15}" for unit in units))
    for device in devices:
        curved = isinstance(device.response, Exponential)
        labels = f"{device.nonlinearity_up:g}/{device.nonlinearity_down:g}"
        cells = (
            type(device.response).__name__,
            f"{device.g_min:.3g}",
            f"{device.g_max:.3g}",
            f"{device.levels_up:.0f}/{device.levels_down:.0f}",
            labels if curved else "-",
            f"{device.cycle_to_cycle:.1%}",
            f"{device.read_noise:.1%}",
        )
        print(
            f"{device.name:<16}" + "".join(f"{cell:>15}" for cell in cells) + f"  {device.source}"
        )
