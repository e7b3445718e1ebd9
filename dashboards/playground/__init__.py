"""The Playground page: one live run whose knobs change while it trains."""

from dashboards import Page

PAGE = Page("Playground", place=0)
