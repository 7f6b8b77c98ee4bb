"""Pictures of a run: a chart as PNG or SVG, and a report as one HTML file.

What draws (matplotlib, jinja2) is imported when something is drawn.
"""

from holdfast.pictures.drawing import FORMATS, Format, chart
from holdfast.pictures.reporting import report

__all__ = ["FORMATS", "Format", "chart", "report"]
