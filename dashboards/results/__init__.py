"""The Results page: saved runs, compared and exported."""

from dashboards import Page

PAGE = Page("Results", place=3)
