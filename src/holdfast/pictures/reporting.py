"""A run's report: one HTML file that needs nothing else, neither a network nor a script."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from itertools import islice

from holdfast.insight import Course, RunDetail, detail_of
from holdfast.pictures import facts
from holdfast.pictures.drawing import chart
from holdfast.pictures.inline import inlined
from holdfast.pictures.palette import DARK, LIGHT
from holdfast.pictures.rendering import installed
from holdfast.readable import moment, number, printable
from holdfast.store import Store

_WIDE, _NARROW = 1040, 400
#: Values of a configuration that are shown at most.
_MOST_VALUES = 2000


def report(store: Store, run: str, *, now: float) -> str:
    """Returns a run's report as the text of an HTML file.

    Args:
        store: The store.
        run: The run.
        now: When it is made, seconds since the epoch; it says so.

    Raises:
        NotFoundError: There is no such run.
        ConfigError: jinja2, matplotlib or tsdownsample is not installed.
    """
    installed("jinja2", wanted_by="a report")
    from jinja2 import BaseLoader, Environment, StrictUndefined
    from markupsafe import Markup

    reader = store[run]
    course = Course(reader)
    course.refresh()
    detail = detail_of(store, course, spark=1, decisions=facts.MOST_ROWS)
    metrics = facts.columns(detail)
    rows, hidden = facts.rows(detail, metrics)

    def inert(value: object) -> object:
        # What cannot be seen, or turns the direction of writing, is no part of a page.
        seen = isinstance(value, str) and not isinstance(value, Markup)
        return printable(str(value), lines=True) if seen else value

    # Everything that comes from a run is escaped by this; what is safe says so by itself.
    page = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, finalize=inert
    )
    return page.from_string(_text("report.html")).render(
        name=run,
        css=_colours() + _text("report.css"),
        charts=_charts(store, detail, course),
        alerts=detail.alerts,
        headline=facts.headline(detail),
        commands=facts.commands(detail, str(store.path)),
        metrics=metrics,
        rows=rows,
        hidden=hidden,
        summary=[
            (m.name, number(m.last), number(m.best), number(m.lowest), number(m.highest), m.points)
            for m in detail.metrics
        ],
        decisions=[
            (moment(d.at), d.fate, d.step, d.checkpoint_id or "", d.reason)
            for d in detail.decisions
        ],
        undecided=detail.decided - len(detail.decisions),
        config=_values(detail.info.config),
        environment=_values(detail.info.environment),
        policies=[(name, str(text)) for name, text in detail.info.policies.items()],
        storage=facts.storage(detail),
        made=moment(now),
    )


def _charts(store: Store, detail: RunDetail, course: Course) -> dict[str, str]:
    """Returns the chart for wide windows and for phones, as SVG elements that are safe."""
    best = detail.best.info if detail.best else None
    label = f"Chart of {detail.info.name}: {', '.join(m.name for m in detail.metrics[:7])}"
    if best is not None:
        label += f"; the best checkpoint is of step {best.step}"
    found = {}
    for name, width in (("wide", _WIDE), ("narrow", _NARROW)):
        svg = chart(store[detail.info.name], "svg", width=width, course=course, salt=name)
        found[name] = inlined(svg.decode(), LIGHT, name=name, label=label)
    return found


def _values(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return list(islice(facts.flat(values), _MOST_VALUES))


def _colours() -> str:
    """Returns the chart's colours as properties, light and dark."""

    def listed(colours: Mapping[str, str]) -> str:
        return "".join(f"--chart-{name}:{value};" for name, value in colours.items())

    light, dark = listed(LIGHT.named()), listed(DARK.named())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _text(name: str) -> str:
    return files("holdfast.pictures").joinpath(name).read_text(encoding="utf-8")
