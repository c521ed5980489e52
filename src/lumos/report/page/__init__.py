"""The page: all answers about a job as one offline HTML file."""

from lumos.report.page.page import page

__all__ = ["page"]
