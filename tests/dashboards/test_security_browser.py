"""Pages behind a proxy's prefix and a password, and what a stranger gets from a real server."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from playwright.sync_api import Page, expect
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.dashboards.driving import PATIENCE_MS, Dashboard, button, choose, wait_until

pytestmark = pytest.mark.browser


def answer(dashboard: Dashboard, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, address that it leads on to, and text of one plain request."""
    address = urlsplit(dashboard.url)
    connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers.get("Location", ""), response.read().decode()


def knock(dashboard: Dashboard, path: str, origin: str) -> int | str:
    """Open a page's websocket as a script would: the first message, or the status of a refusal."""

    async def first_message() -> int | str:
        token = generate_jwt_token(generate_session_id(), expiration=300)
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
    page: Page,
    own_dashboard: Callable[..., Dashboard],
    strangers: list[str],
    tmp_path: Path,
) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\nnot this line\n")
    dashboard = own_dashboard("--password-file", str(secret), prefix="/lab")
    own = dashboard.url.removesuffix("/lab/")
    for path in ("/lab/", "/lab/race", "/lab/devices", "/lab/results", "/lab/scenarios"):
        status, leads_to, text = answer(dashboard, path)
        assert status == 302 and urljoin(path, leads_to).startswith("/lab/login?next="), leads_to
        assert "Bokeh" not in text
    assert knock(dashboard, "/ws", own) == 403
    forged = 'user="2|1:0|10:1|4:user|8:dmlzaXRvcg==|00"'
    status, _, text = answer(dashboard, "/lab/", Cookie=forged)
    assert status == 302 and "Bokeh" not in text

    page.set_default_timeout(PATIENCE_MS)
    page.goto(dashboard.url + "devices?device=EpiRAM")
    page.get_by_label("Password").fill("not this line")
    button(page, "Enter").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the password.", timeout=PATIENCE_MS)
    page.get_by_label("Password").fill("open sesame")
    button(page, "Enter").click()
    expect(page.locator(".bk-Figure")).to_have_count(2, timeout=PATIENCE_MS)
    assert page.url.startswith(dashboard.url + "devices?device=EpiRAM")
    choose(page, "Device", "FeFET")
    wait_until(page, lambda: "device=FeFET" in page.url, "the page answered")

    page.get_by_role("link", name="Results").click()
    page.wait_for_url(dashboard.url + "results")
    button(page, "Two example runs").click()
    expect(page.locator(".bk-Figure:visible").first).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("link", name="Scenarios").click()
    page.wait_for_url(dashboard.url + "scenarios")
    page.get_by_role("article").first.get_by_role("link").click()
    expect(button(page, "Start")).to_be_visible(timeout=PATIENCE_MS)
    assert strangers == []


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
