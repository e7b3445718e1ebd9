"""The Race page: several runs side by side."""

from dashboards import Page

PAGE = Page("Race", place=1)
