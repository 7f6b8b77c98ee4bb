"""The report as tables on a terminal and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from bench.measure import Samples
from bench.results import Report, Table, Verdict

BEGIN = "<!-- measured: begin, written by `python -m bench --write` -->"
END = "<!-- measured: end -->"


def columns(table: Table) -> list[str]:
    """Returns the headings of a table."""
    names = ["way", f"median {table.unit}".strip(), "min", "max"]
    if table.limit is not None:
        names.append("x limit")
    if table.nbytes:
        names.append("GB/s")
    return [*names, "note"]


def cells(table: Table, way: Samples) -> list[str]:
    """Returns a way's line of a table."""
    median = way.median
    width = len(columns(table))
    if median is None:
        return [way.name, *[""] * (width - 2), way.error]
    line = [way.name, *(number(value) for value in (median, min(way.values), max(way.values)))]
    if table.limit is not None:
        line.append(f"{median / table.limit:.2f}")
    if table.nbytes:
        line.append(f"{table.nbytes / median / 1e6:.2f}")
    note = "; ".join(text for text in (way.note, way.error) if text)
    return [*line, "; ".join(["the limit", note] if note else ["the limit"]) if way.limit else note]


def number(value: float) -> str:
    """Returns a figure with three digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def verdict_text(verdict: Verdict) -> str:
    """Returns a target and what became of it, in a line."""
    if not verdict.found:
        return f"target {verdict.target}: not measured"
    state = {True: "met", False: "NOT met", None: "not judged"}[verdict.met]
    return f"target {verdict.target}: {verdict.found}, {state}"


def show(console: Console, table: Table) -> None:
    """Prints a table."""
    grid = Grid(title=table.title, title_justify="left", title_style="bold")
    names = columns(table)[:-1]
    for index, name in enumerate(names):
        grid.add_column(name, justify="right" if index else "left", no_wrap=bool(index))
    asides = []
    for way in table.ways:
        style = "dim" if way.limit else "bold" if way.name.startswith("holdfast") else ""
        *line, note = cells(table, way)
        grid.add_row(*line, style="yellow" if way.error else style)
        if note:
            asides.append(f"{way.name}: {note}")
    console.print(grid, markup=False)
    for line in (*asides, *table.notes, *map(verdict_text, table.verdicts)):
        console.print(f"  {line}", markup=False, highlight=False)


def to_markdown(report: Report) -> Iterator[str]:
    """Yields the lines of the report."""
    yield "| | |"
    yield "|---|---|"
    for name, value in report.machine.items():
        yield f"| {name} | {_escaped(value)} |"
    yield ""
    yield "### Targets"
    yield ""
    yield "| row | target | found | |"
    yield "|---|---|---|---|"
    for table in report.tables:
        for one in table.verdicts:
            met = {True: "met", False: "**not met**", None: "not judged"}[one.met]
            found = one.found or "not measured"
            line = (table.title, one.target, found, met if one.found else "")
            yield f"| {' | '.join(map(_escaped, line))} |"
    yield ""
    for table in report.tables:
        yield f"### {table.title[:1].upper()}{table.title[1:]}"
        yield ""
        yield from _grid(table)
        for note in table.notes:
            yield ""
            yield note
        yield ""


def _grid(table: Table) -> Iterator[str]:
    names = columns(table)
    yield f"| {' | '.join(names)} |"
    yield f"|{'|'.join('---' if i in (0, len(names) - 1) else '--:' for i in range(len(names)))}|"
    for way in table.ways:
        line = cells(table, way)
        if way.name.startswith("holdfast"):
            line[0] = f"**{line[0]}**"
        yield f"| {' | '.join(map(_escaped, line))} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def write(report: Report, page: Path, extra: Iterable[str] = ()) -> None:
    """Puts the report between the markers of a page; all else on the page stays.

    Raises:
        ValueError: The page has no such markers.
    """
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    body = "\n".join((*extra, *to_markdown(report))).strip()
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")
