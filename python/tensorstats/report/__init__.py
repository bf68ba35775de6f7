"""Text for people: the table of a recorded step and the findings in words; knows no torch."""

from tensorstats.report.screen import LINES, format_finding, format_report
from tensorstats.report.table import Row, format_table, number
from tensorstats.report.text import Text

__all__ = ["LINES", "Row", "Text", "format_finding", "format_report", "format_table", "number"]
