"""The tests run every notebook (nbmake), with less training than a reader sees."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers come last: their driver leaves an event loop that others would wait in."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


os.environ.setdefault("TOOLKIT_FAST", "1")
