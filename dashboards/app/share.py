"""Sharing a run: downloads, the upload of settings, the link and Python code.

Reads the run through its ``LiveControls``; ``settings_text.py`` checks uploaded settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import xarray as xr

from dashboards.app.child import read_beside
from dashboards.app.downloads import Download, beside
from dashboards.app.settings_text import knobs_of_yaml, python_of, yaml_of
from dashboards.app.site import Text, button
from dashboards.app.uploads import yaml_upload
from toolkit.results import to_bytes, to_zarr_zip
from toolkit.training.experiment.knobs import knobs_of
from toolkit.training.experiment.settings import Settings
from toolkit.training.live.live_run import LiveControls

LONGEST_WAIT_S = 60.0  # longest wait for a step to end
_COPY = "if (cb_obj.text) navigator.clipboard?.writeText(decode(cb_obj.text)).catch(() => {})"
_DECODE = (
    "const decode = text => new DOMParser().parseFromString("
    "new DOMParser().parseFromString(text, 'text/html').body.textContent, 'text/html')"
    ".body.textContent;"
)


class Share:
    """Downloads, an upload and two things to copy.

    ``load`` gets all knobs of uploaded settings; ``refuse`` gets one line if they are not allowed.
    """

    def __init__(
        self,
        run: LiveControls,
        *,
        load: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._run, self._load, self._refuse = run, load, refuse
        self.netcdf = Download(
            "Download run (netCDF)", "sbpca-run.nc", partial(self._file, to_bytes), say=refuse
        )
        self.zarr = Download(
            "Download run (Zarr)",
            "sbpca-run.zarr.zip",
            partial(self._file, to_zarr_zip),
            say=refuse,
        )
        self.settings = Download(
            "Download settings (YAML)", "sbpca-settings.yaml", self._settings_file, say=refuse
        )
        self.upload = yaml_upload("Load settings (YAML)")
        self.upload.param.watch(self._uploaded, "value")
        self.link = button("Copy link", variant="outlined")
        self.link.js_on_click(code="navigator.clipboard?.writeText(location.href)")
        self.python = button("Copy as Python", variant="outlined")
        self.python.on_click(lambda _: self.show_python())
        self.code = Text("", sizing_mode="stretch_width")
        self.code.jscallback(text=_DECODE + _COPY)

    def parts(self) -> list[Any]:
        """The widgets in order."""
        files = [self.netcdf, self.zarr, self.settings, self.upload]
        return [*files, self.link, self.python, self.code]

    def show_python(self) -> None:
        """Show and copy the code that repeats the run so far."""
        now = self._run.snapshot
        code = python_of(now.first_knobs, now.changes, now.step)
        self.code.object = ""
        self.code.object = (
            '<pre tabindex="0" style="max-height:160px;overflow:auto;font-size:12px;margin:4px 0"'
            f' aria-label="Python that repeats this run">{escape(code)}</pre>'
        )

    def _settings_file(self) -> bytes:
        return yaml_of(self._run.snapshot.knobs).encode()

    async def _file(self, write: Callable[[xr.DataTree], bytes]) -> bytes:
        """The run as a file, taken after the current step."""
        answer = asyncio.wrap_future(self._run.ask_results())
        try:
            tree = await asyncio.wait_for(answer, LONGEST_WAIT_S)
        except TimeoutError:
            raise ValueError(f"the run did not answer within {LONGEST_WAIT_S:g} s.") from None
        return await beside(write, tree)

    async def _uploaded(self, event: Any) -> None:
        if event.new:
            try:
                given = await read_beside(knobs_of_yaml, event.new)
            except ValueError as error:
                self._refuse(f"Settings not loaded: {error}")
            else:
                defaults = {name: knob.default for name, knob in knobs_of(Settings).items()}
                self._load(defaults | given)
