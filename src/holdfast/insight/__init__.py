"""What people want to see of a store, gathered once for all who show it.

Terminal, pictures and pages show the same numbers; they come from here. Everything is read through
the public names, nothing is written, and what was read once is not read again.
"""

from holdfast.insight.alerts import Alert
from holdfast.insight.closeup import CloseUp, close_up
from holdfast.insight.course import Course, Series
from holdfast.insight.lineage import Chain, Lineage, Node, lineage_of
from holdfast.insight.marks import Mark, marks_of
from holdfast.insight.overview import Overview, RunSummary, StoreSummary
from holdfast.insight.story import Story, story_of

__all__ = [
    "Alert",
    "Chain",
    "CloseUp",
    "Course",
    "Lineage",
    "Mark",
    "Node",
    "Overview",
    "RunSummary",
    "Series",
    "StoreSummary",
    "Story",
    "close_up",
    "lineage_of",
    "marks_of",
    "story_of",
]
