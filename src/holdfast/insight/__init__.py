"""What people want to see of a store, gathered once for all who show it.

Terminal, pictures and pages show the same numbers; they come from here. Everything is read through
the public names, nothing is written, and what was read once is not read again.
"""

from holdfast.insight.alerts import Alert
from holdfast.insight.closeup import CloseUp, close_up
from holdfast.insight.comparison import Comparison, Entry, compare, difference
from holdfast.insight.course import Course, Series
from holdfast.insight.detail import MetricDetail, RunDetail, detail_of, metrics_in_order
from holdfast.insight.lineage import Chain, Lineage, Node, lineage_of
from holdfast.insight.lines import Line, line_of
from holdfast.insight.marks import Mark, MarkFate, marks_of
from holdfast.insight.overview import Overview, RunSummary, StoreSummary
from holdfast.insight.saves import SaveCosts, save_costs
from holdfast.insight.space import Freed, Soundness, Space, freed_by, soundness_of, space_of
from holdfast.insight.story import Story, story_of
from holdfast.insight.watching import StoreWatch

__all__ = [
    "Alert",
    "Chain",
    "CloseUp",
    "Comparison",
    "Course",
    "Line",
    "Mark",
    "MarkFate",
    "MetricDetail",
    "Entry",
    "Freed",
    "Lineage",
    "Node",
    "Overview",
    "RunDetail",
    "RunSummary",
    "SaveCosts",
    "Series",
    "Soundness",
    "Space",
    "StoreSummary",
    "StoreWatch",
    "detail_of",
    "line_of",
    "marks_of",
    "metrics_in_order",
    "save_costs",
    "Story",
    "close_up",
    "compare",
    "difference",
    "freed_by",
    "lineage_of",
    "soundness_of",
    "space_of",
    "story_of",
]
