"""The tests run every notebook (nbmake), with less training than a reader sees."""

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers come last: their driver leaves an event loop that others would wait in."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("alone") is not None,
            "browser" in getattr(item, "fixturenames", ()),
        )
    )


os.environ.setdefault("TOOLKIT_FAST", "1")
