"""What people want to see of a store, gathered once for all who show it.

Terminal, pictures and pages show the same numbers; they come from here. Everything is read through
the public names, nothing is written, and what was read once is not read again.
"""

from holdfast.insight.alerts import Alert
from holdfast.insight.course import Course, Series
from holdfast.insight.detail import MetricDetail, RunDetail, detail_of, metrics_in_order
from holdfast.insight.lines import Line, line_of
from holdfast.insight.marks import Mark, MarkFate, marks_of
from holdfast.insight.overview import Overview, RunSummary, StoreSummary
from holdfast.insight.watching import StoreWatch

__all__ = [
    "Alert",
    "Course",
    "Line",
    "Mark",
    "MarkFate",
    "MetricDetail",
    "Overview",
    "RunDetail",
    "RunSummary",
    "Series",
    "StoreSummary",
    "StoreWatch",
    "detail_of",
    "line_of",
    "marks_of",
    "metrics_in_order",
]
