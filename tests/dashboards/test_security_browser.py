"""Pages behind a proxy's prefix and a password, and what a stranger gets from a real server."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import panel as pn
import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from playwright.sync_api import Page, expect
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dashboards.app.serve import keep_routes
from tests.dashboards.driving import Dashboard, button, choose, wait_until

pytestmark = pytest.mark.alone


def answer(dashboard: Dashboard, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, address that it leads on to, and text of one plain request."""
    address = urlsplit(dashboard.url)
    connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers.get("Location", ""), response.read().decode()


def knock(dashboard: Dashboard, path: str, origin: str) -> int | str:
    """Open a page's websocket as a script would: the first message, or the status of a refusal."""

    page = dashboard.url.rstrip("/") + path.removesuffix("ws")
    found = re.search(r'"token":"([^"]+)"', answer(dashboard, urlsplit(page).path)[2])

    async def first_message() -> int | str:
        token = found[1] if found else generate_jwt_token(generate_session_id(), expiration=300)
        url = dashboard.url.replace("http", "ws", 1).rstrip("/") + path
        request = HTTPRequest(url, headers={"Origin": origin})
        try:
            socket = await websocket_connect(request, subprotocols=["bokeh", token])
        except HTTPClientError as error:
            return error.code
        message = await asyncio.wait_for(socket.read_message(), 60)
        socket.close()
        return json.loads(message)["msgtype"] if message else "closed"

    with ThreadPoolExecutor(1) as beside:  # the browser's driver has a loop in this thread
        return beside.submit(asyncio.run, first_message()).result()


def test_all_pages_stand_behind_a_prefix_and_a_password(
    watched_page: Page,
    own_dashboard: Callable[..., Dashboard],
    tmp_path: Path,
) -> None:
    page = watched_page
    secret = tmp_path / "password"
    secret.write_text("open sesame\nnot this line\n")
    dashboard = own_dashboard("--password-file", str(secret), prefix="/lab")
    own = dashboard.url.removesuffix("/lab/")
    pages = ("", "race", "devices", "results", "budget", "scenarios")
    for path in (f"/lab/{name}" for name in pages):
        status, leads_to, text = answer(dashboard, path)
        assert status == 302 and urljoin(path, leads_to).startswith("/lab/login?next="), leads_to
        assert "Bokeh" not in text
    assert knock(dashboard, "/ws", own) == 403
    forged = 'user="2|1:0|10:1|4:user|8:dmlzaXRvcg==|00"'
    status, _, text = answer(dashboard, "/lab/", Cookie=forged)
    assert status == 302 and "Bokeh" not in text

    page.goto(dashboard.url + "devices?device=EpiRAM")
    page.get_by_label("Password").fill("not this line")
    button(page, "Enter").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the password.")
    page.get_by_label("Password").fill("open sesame")
    button(page, "Enter").click()
    expect(page.locator(".bk-Figure")).to_have_count(2)
    assert page.url.startswith(dashboard.url + "devices?device=EpiRAM")
    choose(page, "Device", "FeFET")
    wait_until(page, lambda: "device=FeFET" in page.url, "the page answered")

    page.get_by_role("link", name="Results").click()
    page.wait_for_url(dashboard.url + "results")
    button(page, "Two example runs").click()
    expect(page.locator(".bk-Figure:visible").first).to_be_visible()
    page.get_by_role("link", name="Scenarios").click()
    page.wait_for_url(dashboard.url + "scenarios")
    with page.expect_popup() as opened:
        page.get_by_role("article").first.get_by_role("link").click()
    expect(button(opened.value, "Start")).to_be_visible()


def test_a_socket_opens_for_this_machines_own_pages_only(dashboard: Dashboard) -> None:
    own = dashboard.url.rstrip("/")
    assert knock(dashboard, "/ws", own) == "ACK"
    port = urlsplit(dashboard.url).port
    for origin in (
        "http://evil.example",
        f"http://evil.example:{port}",
        f"http://localhost.evil.example:{port}",
        "http://127.0.0.1:1",
        "null",
    ):
        assert knock(dashboard, "/ws", origin) == 403, origin


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/static/../../../../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static/extensions/panel/../../../../../../../../etc/passwd",
        "/results?variable=/etc/passwd",
        "/%2e%2e/pyproject.toml",
    ],
)
def test_no_path_leads_to_a_file_of_the_machine(dashboard: Dashboard, path: str) -> None:
    _, _, text = answer(dashboard, path)
    assert "root:" not in text and "[project]" not in text


# the handler of /components imports what the URL names, and toolkit.__main__ once ended the server
@pytest.mark.parametrize(
    "path",
    [
        "/components/toolkit.__main__/a/b/c",
        "/components/unittest.__main__/a/b/c",
        "/components/panel.widgets/Button/_css/x",
        "/metadata",
        "/race/metadata",
        "/extensions/x",
        "/?rank=" + "9" * 5000,
        "/devices?levels_up=" + "9" * 5000,
        "/results?variable=" + "9" * 5000,
        "/race?a.rank=" + "9" * 5000,
        "/?" + "&".join(f"k{i}=1" for i in range(300)),
        "/?rank=" + "9" * 3900,
        "/?rank=%ff%00&rank=nan&hidden=" + "%5B" * 1000,
    ],
)
def test_hostile_urls_are_answered(dashboard: Dashboard, path: str) -> None:
    status, _, _ = answer(dashboard, path)
    assert status == (414 if len(path) > 4000 else 200 if "?" in path else 404)
    assert dashboard.process.poll() is None
    assert answer(dashboard, "/scenarios")[0] == 200


def test_only_pages_and_static_files_have_routes() -> None:
    server = pn.serve(
        {"/": lambda: pn.pane.Str(""), "race": lambda: pn.pane.Str("")},
        port=0,
        show=False,
        start=False,
        verbose=False,
    )
    keep_routes(server._tornado.default_router)
    handlers = {rule.target.__name__ for rule in every_rule(server._tornado.default_router)}
    assert handlers == {
        "IcoHandler",
        "WSHandler",
        "PageHandler",
        "AutoloadJsHandler",
        "StaticHandler",
        "MultiRootStaticHandler",
    }


def every_rule(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from every_rule(rule.target)
        else:
            yield rule


def test_nobody_names_a_session(dashboard: Dashboard) -> None:
    status, _, text = answer(dashboard, "/?bokeh-session-id=mine")
    assert status == 403 and "mine" not in text and "docs_json" not in text
    own = dashboard.url.rstrip("/")
    assert knock(dashboard, "/nowhere/ws", own) == 404


def test_wrong_passwords_are_counted(
    own_dashboard: Callable[..., Dashboard], tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame")
    dashboard = own_dashboard("--password-file", str(secret))
    address = urlsplit(dashboard.url)

    def enter(password: str) -> tuple[int, list[str]]:
        connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=60)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", f"username=v&password={password}", form)
        response = connection.getresponse()
        return response.status, response.headers.get_all("Set-Cookie") or []

    status, cookies = enter("open+sesame")
    assert status == 302 and cookies
    assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie for cookie in cookies)
    assert [enter("guess")[0] for _ in range(11)] == 10 * [403] + [429]
    assert enter("open+sesame")[0] == 429
