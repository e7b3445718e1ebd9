"""Login with one password for all visitors, on Panel's own login page.

Panel tells visitors apart by signed cookies and refuses pages and sockets without one. A wrong
password, which is a server error in Panel 1.9, is handled here instead: after ten wrong passwords
within a minute, a visitor has to wait.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict, deque
from hmac import compare_digest
from pathlib import Path
from typing import Any

from panel.auth import BasicAuthProvider, BasicLoginHandler

from toolkit.checks import check_file

FORM = Path(__file__).with_name("login.html")
SHORTEST = 10
WRONG, PER_S = 10, 60.0  # most wrong passwords from one address, and the period
_LARGEST = 10_000  # addresses remembered


def read_password(path: Path) -> str:
    """The first line of a file; a password on the command line would be visible to all users.

    Raises
    ------
    ValueError
        If there is no such file, or the line is too short or has spaces around it.
    """
    try:
        password = (
            check_file("password_file", path)
            .read_text(encoding="utf-8")
            .partition("\n")[0]
            .removesuffix("\r")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"password_file={str(path)!r} cannot be read: {error}.") from None
    if len(password) < SHORTEST or password != password.strip():
        raise ValueError(
            f"the first line of {path} must be a password of {SHORTEST} characters or more, "
            "without spaces around it."
        )
    return password


def login_options(password: str, prefix: str) -> dict[str, Any]:
    """Options of ``pn.serve`` that require login; cookies expire with the server."""
    return {
        "auth_provider": PasswordLogin(password),
        "cookie_secret": secrets.token_hex(32),
        "cookie_path": prefix or "/",
    }


class PasswordLogin(BasicAuthProvider):
    """Grants access to visitors with the password."""

    def __init__(self, password: str) -> None:
        self._password = password  # set first: the base class asks for the handler
        super().__init__(login_template=str(FORM))

    @property
    def login_handler(self) -> type[BasicLoginHandler]:
        """The handler of the form, as the class that Bokeh requires."""
        known = {
            "password": self._password.encode(),
            "wrong": defaultdict(deque),
            "_login_template": self._login_template,
        }
        return type("LoginForm", (Form,), known)


class Form(BasicLoginHandler):
    """Panel's login with one password, a limit on wrong ones and same-site cookies."""

    password: bytes
    wrong: dict[str, deque[float]]  # times of wrong passwords, by address

    def set_cookie(self, name: str, value: str | bytes, *given: Any, **options: Any) -> None:
        """Set a cookie that other sites cannot send and scripts cannot read."""
        options |= {"samesite": "Lax", "httponly": True}
        super().set_cookie(name, value, *given, **options)

    def _validate(self, username: str, password: str) -> bool:  # noqa: ARG002 - Panel's
        return compare_digest(password.encode(), self.password)

    def post(self) -> None:
        """Log in with the right password; 403 for a wrong one, 429 after ten of them."""
        now, address = time.monotonic(), self.request.remote_ip or ""
        if len(self.wrong) > _LARGEST:
            self.wrong.clear()
        times = self.wrong[address]
        while times and now - times[0] > PER_S:
            times.popleft()
        if len(times) >= WRONG:
            self._refuse(429, "later")
        elif self._validate("", self.get_argument("password", "")):
            super().post()
        else:
            times.append(now)
            self._refuse(403, "wrong")

    def _refuse(self, status: int, why: str) -> None:
        self.set_status(status)
        self.write(self._login_template.render(errormessage=why))
