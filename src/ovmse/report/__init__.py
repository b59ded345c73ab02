"""Reports: read run directories, judge them, and write a page, figures and tables."""

from ovmse.report.compare import compare
from ovmse.report.page import write_report

__all__ = ["compare", "write_report"]
