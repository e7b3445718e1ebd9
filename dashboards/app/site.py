"""The list of pages, and the frame, links and small widgets that all pages share."""

from __future__ import annotations

import pkgutil
import time
from functools import cache, partial
from html import escape
from importlib import import_module
from multiprocessing import active_children
from typing import Any

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models import CustomJS
from panel.io.notifications import NotificationAreaBase
from panel.util import edit_readonly

import dashboards
from dashboards.app.tutorials import INDEX, ROUTE
from toolkit.checks import check_choice
from toolkit.training.live.live_run import LiveControls, LiveRun
from toolkit.training.live.process import LiveProcess
from toolkit.training.live.run_limit import RunLimit

NAME = "SBPCA Toolkit"
CELL = "AlOx/HfO2"  # of the runs with which pages open: it trains well, and its curvature is seen
NOTICE_MS = 6000
ABSENT_S = 2.0
MAX_RUNS = 8  # at once; `serve` can change it
SIDEBAR_WIDTH = 300
CENTRED = {"align-items": "center"}  # the parts of a line
_SMALL = {"size": "small", "margin": (6, 6)}
_LINK = (
    "color:#fff;text-decoration:none;padding:5px 10px;border-radius:4px;font-size:15px;"
    "white-space:nowrap;"
)
# Material UI names the icons of tooltips but omits the role that makes names count.
_NAMED_ICONS = """
const set = Element.prototype.setAttribute
Element.prototype.setAttribute = function (name, value) {
  set.call(this, name, value)
  if (name === "aria-label" && this.localName === "span" && !this.hasAttribute("role"))
    set.call(this, "role", "img")
}
for (const kind of ["pointerdown", "keydown"])
  addEventListener(kind, () => { window.touched = true }, {capture: true, once: true})
"""
# What a question mark has opened closes with Escape and with a click elsewhere.
_CLOSE_HELP = """
let help
addEventListener("click", (event) => {
  const found = event.composedPath().find((one) => one.localName === "details")
  if (help && help !== found) help.open = false
  help = found
}, true)
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && help) help.open = false
}, true)
"""
# Modules of these pages import nothing: the browser reads them itself, quicker than Panel's shim.
# Bokeh asks for the style of every line at every frame, in case a page sets it; ours do not.
_QUICK = """
window.importShim = Object.assign(
  (url) => import(new URL(url, document.baseURI)), {addImportMap() {}}
)
Bokeh.require("core/visuals/visual").VisualProperties.prototype._get_css_value = () => ""
"""
# On a phone the sidebar would cover the page on arrival. Who has already used the page keeps it.
# The browser remembers light or dark for all pages.
_READY = """
for (const document of Bokeh.documents)
  for (const {data} of document._all_models.values()) {
    if (!data || data.sidebar_open === undefined) continue
    if (innerWidth < 600 && !window.touched) data.sidebar_open = false
    if (localStorage.theme === "dark") data.dark_theme = true
    data.properties.dark_theme.change.connect(
      () => { localStorage.theme = data.dark_theme ? "dark" : "light" }
    )
  }
"""
# On a phone the knobs are a sheet below the figures, which stay in sight and can be scrolled.
_SHEET = """
@media (max-width: 599px) {
  .MuiDrawer-root.MuiModal-root {pointer-events: none}
  .MuiDrawer-root > .MuiBackdrop-root, .sidebar > .MuiToolbar-root {display: none !important}
  .MuiDrawer-root > .sidebar {
    position: absolute !important; top: auto !important; bottom: 0; width: 100% !important;
    height: 42% !important; border-top: 1px solid; pointer-events: auto
  }
}"""
_READABLE = {
    "& .MuiLinearProgress-root": {"display": "none"},  # `busy_indicator=None` does not remove it
}
_FOCUS = (
    "a:focus-visible{outline:2px solid #fff;outline-offset:1px} a:hover{background:#00000033} "
    "@media(max-width:600px){h1{position:absolute;clip-path:inset(50%)}"
    "nav{max-width:calc(100vw - 150px);flex-wrap:wrap}"  # the switch of light and dark stays
    "nav a{font-size:13px!important;padding:2px 5px!important}}"
)


@cache
def pages() -> dict[str, str]:
    """The title of every page by key, its folder below ``dashboards``, in order."""
    folders = [m.name for m in pkgutil.iter_modules(dashboards.__path__) if m.ispkg]
    found = {key: getattr(import_module(f"dashboards.{key}"), "PAGE", None) for key in folders}
    in_order = sorted((page.place, key, page.title) for key, page in found.items() if page)
    return {key: title for _, key, title in in_order}


def path(key: str) -> str:
    """The path of the page on the server; the first page is at the root."""
    check_choice("page", key, pages())
    return "/" if key == next(iter(pages())) else key


def link(key: str, query: str = "") -> str:
    """The address of a page relative to any other, which works behind a proxy's prefix."""
    return ("./" if path(key) == "/" else path(key)) + (f"?{query}" if query else "")


def page(key: str, *, sidebar: list[Any], main: list[Any]) -> pmui.Page:
    """A page of the site: a heading, links to the other pages, a switch for light and dark.

    ``sidebar`` can be empty. There is no busy bar, as pages that move would always show it.
    """
    pn.state.on_session_destroyed(_forget_notifications)
    if pn.state.curdoc:
        pn.state.curdoc.js_on_event("document_ready", CustomJS(code=_READY))
    made = pmui.Page(
        meta_title=title(key),
        header=[Text(_header(key), sizing_mode="stretch_width", margin=0, stylesheets=[_FOCUS])],
        sidebar=sidebar,
        sidebar_width=SIDEBAR_WIDTH,
        sidebar_resizable=False,
        main=main,
        template=_template(),
        sx=_READABLE,
        stylesheets=[_SHEET],
    )
    with edit_readonly(made):  # otherwise it stays attached to the server's own state
        made.busy = _Calm().param.busy
    return made


@cache
def _template() -> str:
    """Panel's own with our scripts; the code of widgets loads before the first of them is there."""
    widgets = pmui.Page._render_esm(server=True)
    return (
        '{% extends "base.html" %}{% block preamble %}{{ super() }}'
        f'<link rel="modulepreload" href="{widgets}">'
        f"<script>{_NAMED_ICONS}{_CLOSE_HELP}</script>{{% endblock %}}"
        f"{{% block postamble %}}<script>{_QUICK}</script>{{% endblock %}}"
    )


def _forget_notifications(session_context: Any) -> None:
    """Free an ended session: Panel 1.9 keeps its notifications, and thereby the whole page."""
    views = pn.state._views
    for ref, (view, _, document, _) in list(views.items()):
        if document is session_context._document and isinstance(view, NotificationAreaBase):
            del views[ref]


def title(key: str) -> str:
    """Title of the browser tab."""
    return f"{pages()[key]} · {NAME}"


def notify(text: str, kind: str = "error", *, also: Text | None = None) -> None:
    """Show ``text`` as a notification, and in ``also`` if there are none (in a notebook)."""
    if pn.state.notifications is not None:
        getattr(pn.state.notifications, kind)(text, duration=NOTICE_MS)
    elif also is not None:
        also.object = escape(text)


def svg(outline: str) -> str:
    """An icon as SVG; icons from a font would come from a CDN in a notebook.

    ``outline`` is the ``d`` of a path in a box of 24 x 24.
    """
    path = f'<path d="{outline}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">{path}</svg>'


def button(label: str, outline: str = "", **style: Any) -> pmui.Button:
    """A button with an icon of this ``outline``, see :func:`svg`."""
    drawing = {"icon": svg(outline)} if outline else {}
    return pmui.Button(label=label, size="small", margin=(5, 4), **drawing, **style)


def slider(label: str, low: float, high: float, value: float, doc: str, **style: Any) -> Any:
    """A small slider over whole numbers if ``low`` is an int, else in steps of 0.01."""
    kind = pmui.IntSlider if isinstance(low, int) else partial(pmui.FloatSlider, step=0.01)
    bounds = {"start": low, "end": high, "value": value, "description": doc}
    bounds["tooltips"] = False  # the label has the value
    return kind(label=label, **bounds, **(_SMALL | style))


def select(label: str, options: Any, doc: str | None = None, **style: Any) -> pmui.Select:
    """A small select; its first option is the default."""
    return pmui.Select(label=label, options=options, description=doc, **(_SMALL | style))


def line(*parts: Any, **style: Any) -> pn.Row:
    """Parts side by side, in as many rows as they need."""
    styles = {"flex-wrap": "wrap"} | style.pop("styles", {})
    return pn.Row(*parts, styles=styles, **({"sizing_mode": "stretch_width"} | style))


class _Calm(param.Parameterized):
    """Stands in for the server's state when a page asks whether it is busy."""

    busy = param.Boolean(False)


class Text(pn.pane.HTML):
    """HTML whose updates carry only its text.

    Panel would send the style sheets along each time and, in a notebook, refer to a CDN for them.
    """

    def _update(self, ref: str, model: Any) -> None:  # noqa: ARG002 - Panel's
        model.text = escape(self.object)


def small(text: str) -> str:
    """A paragraph in small print, as HTML."""
    return f'<p style="margin:0;font-size:12px;line-height:1.35">{escape(text)}</p>'


def intro_html(text: str, advice: str) -> str:
    """One sentence on what a page shows, and what to do next."""
    return (
        f'<p style="margin:0;font-size:14px">{escape(text)} <strong>{escape(advice)}</strong></p>'
    )


def intro(text: str, advice: str) -> Text:
    """:func:`intro_html` for the top of a page."""
    return Text(intro_html(text, advice), sizing_mode="stretch_width", margin=(8, 10, 4, 10))


class Visitor:
    """Knows whether the page is still open; call :meth:`gone` once per frame."""

    def __init__(self) -> None:
        self._absent_since: float | None = None

    def gone(self) -> bool:
        """Whether the session has had no connection for ``ABSENT_S``."""
        context = pn.state.curdoc.session_context if pn.state.curdoc else None
        session = getattr(context, "session", None)
        if session is None or session.connection_count > 0:
            self._absent_since = None
            return False
        if self._absent_since is None:
            self._absent_since = time.monotonic()
        return time.monotonic() - self._absent_since > ABSENT_S


def run_limit() -> RunLimit:
    """The server's limit on runs that train at once, over all sessions."""
    found: RunLimit = pn.state.cache.setdefault("run limit", RunLimit(MAX_RUNS))
    return found


def live_run(**given: Any) -> LiveControls:
    """A run for a page: in a process of its own where the server has prepared for it."""
    most = pn.state.cache.get("processes", 0)
    kind = LiveProcess if len(active_children()) < most else LiveRun
    return kind(limit=run_limit(), **given)


def _header(key: str) -> str:
    links = "".join(
        f'<a href="{link(other)}" style="{_LINK}'
        + ('background:#0000004d" aria-current="page">' if other == key else '">')
        + f"{title}</a>"
        for other, title in pages().items()
    )
    links += f'<a href="{ROUTE}/{INDEX}" target="_blank" style="{_LINK}">Tutorials</a>'
    heading = (
        '<h1 style="margin:0;font-size:20px;font-weight:600;color:#fff;white-space:nowrap">'
        f'{NAME}<span style="position:absolute;clip-path:inset(50%)">: '
        f"{pages()[key]}</span></h1>"
    )
    return (
        '<div style="display:flex;align-items:center;gap:24px;flex-wrap:wrap">'
        f'{heading}<nav aria-label="Pages" style="display:flex;gap:2px;overflow-x:auto">{links}'
        "</nav></div>"
    )
