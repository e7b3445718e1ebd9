"""The door: one password for all visitors, asked for by Panel's own log-in.

Panel's keeps visitors apart by signed cookies and refuses pages and sockets without one. What it
does with a wrong password (an error of the server, in 1.9) is done here instead.
"""

from __future__ import annotations

import asyncio
import secrets
from hmac import compare_digest
from pathlib import Path
from typing import Any

from panel.auth import BasicAuthProvider, BasicLoginHandler

FORM = Path(__file__).with_name("login.html")
WRONG_S = 0.5  # whoever tries passwords has to wait
SHORTEST = 4


def read_password(path: Path) -> str:
    """The first line of a file: a file, for a command line is seen by everybody on the machine.

    Raises
    ------
    ValueError
        If there is no such file, or the line is too short or has spaces around it.
    """
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"password_file={str(path)!r} cannot be read: {error}.") from None
    if len(password) < SHORTEST or password != password.strip():
        raise ValueError(
            f"the first line of {path} must be a password of {SHORTEST} characters or more, "
            "without spaces around it."
        )
    return password


def locked(password: str, prefix: str) -> dict[str, Any]:
    """Options of ``pn.serve`` that put the door before all pages; cookies end with the server."""
    return {
        "auth_provider": Door(password),
        "cookie_secret": secrets.token_hex(32),
        "cookie_path": prefix or "/",
    }


class Door(BasicAuthProvider):
    """Lets in who knows the password."""

    def __init__(self, password: str) -> None:
        self._password = password  # first: the base class asks for the handler
        super().__init__(login_template=str(FORM))

    @property
    def login_handler(self) -> type[BasicLoginHandler]:
        """The form's handler; Bokeh asks for a class."""
        known = {"password": self._password.encode(), "_login_template": self._login_template}
        return type("Form", (_Form,), known)


class _Form(BasicLoginHandler):
    password: bytes

    def _validate(self, username: str, password: str) -> bool:  # noqa: ARG002 - Panel's
        return compare_digest(password.encode(), self.password)

    async def post(self) -> None:
        if self._validate("", self.get_argument("password", "")):
            super().post()
            return
        await asyncio.sleep(WRONG_S)
        self.set_status(403)
        self.write(self._login_template.render(errormessage="wrong"))
