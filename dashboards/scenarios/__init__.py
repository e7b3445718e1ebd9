"""The Scenarios page: settings worth a look, one click away."""

from dashboards import Page

PAGE = Page("Scenarios", place=6)
