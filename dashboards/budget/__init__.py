"""The page where a chip's budget is read layer by layer."""

from dashboards import Page

PAGE = Page("Budget", place=5)
