"""The page that compares training algorithms on kinds of cells."""

from dashboards import Page

PAGE = Page("Atlas", place=4)
