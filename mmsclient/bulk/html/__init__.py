"""The report of a campaign as a page: what it says (`page`), the chart (`chart`), how it looks (`report.css`)."""

from mmsclient.bulk.html.report import html_report

__all__ = ["html_report"]
