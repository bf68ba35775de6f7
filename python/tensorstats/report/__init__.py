"""Text for people: the table of a recorded step and the findings in words; knows no torch."""

from tensorstats._text import Text
from tensorstats.report.outcome import Report, verdict
from tensorstats.report.screen import LINES, format_finding, format_report
from tensorstats.report.table import Row, format_table, number

__all__ = ["LINES", "Report", "Row", "Text", "format_finding", "format_report", "format_table", "number", "verdict"]
