"""Export of figures: the browser saves what it shows as PNG or SVG, without the server."""

from __future__ import annotations

import panel as pn

from dashboards.app import site
from dashboards.app.downloads import SAVE_BLOB
from dashboards.app.figure_pane import FigurePane

_SAVE = f"""{SAVE_BLOB}
for (const document_ of Bokeh.documents) {{
  const figure = document_.get_model_by_name(figure_name)
  const view = figure && document_.views_manager.find_one(figure)
  if (view) {{
    view.export(kind).to_blob().then((blob) => save(blob, file_name + '.' + kind))
    break
  }}
}}
"""


def export_buttons(pane: FigurePane, name: str) -> pn.Row:
    """Buttons that save the pane's current figure as ``name``.png and ``name``.svg."""
    pane.name_figure(name)
    buttons = []
    for kind in ("png", "svg"):
        button = site.button(kind.upper(), variant="outlined")
        button.js_on_click(args={"figure_name": name, "file_name": name, "kind": kind}, code=_SAVE)
        buttons.append(button)
    return pn.Row(*buttons, margin=0)
