"""The Devices page: one kind of cell."""

from dashboards import Page

PAGE = Page("Devices", place=2)
