"""How the difference of two checkpoints is shown."""

from __future__ import annotations

from typing import Any

from holdfast.cli.formatting import count, number, value_text
from holdfast.cli.output import Column, Output

_NAMED = 20


def show_difference(out: Output, difference: Any) -> None:
    """Writes what `Store.diff` returned."""
    out.facts((("A", difference.a), ("B", difference.b)))
    if difference.metrics:
        out.heading("Metrics")
        out.table(
            (
                Column("METRIC"),
                Column("A", right=True),
                Column("B", right=True),
                Column("B - A", right=True),
            ),
            [
                (name, number(change.before), number(change.after), _signed(change.delta))
                for name, change in difference.metrics.items()
            ],
        )
    for title, values in (
        ("Configuration", difference.config),
        ("Metadata", difference.metadata),
    ):
        if values:
            out.heading(title)
            out.table(
                (Column("NAME"), Column("A", wraps=True), Column("B", wraps=True)),
                [
                    (
                        path,
                        "" if change.kind == "added" else value_text(change.before),
                        "" if change.kind == "removed" else value_text(change.after),
                    )
                    for path, change in values.items()
                ],
            )
    _show_items(out, difference)
    if difference.tensors:
        _show_norms(out, difference)


def _show_items(out: Output, difference: Any) -> None:
    if not difference.items:
        return
    out.heading("Tensors")
    rows = [
        (name, *(str(len(names)) for names in (i.same, i.changed, i.added, i.removed)))
        for name, i in difference.items.items()
    ]
    titles = ("SAME", "CHANGED", "ONLY IN B", "ONLY IN A")
    out.table((Column("ITEM"), *(Column(title, right=True) for title in titles)), rows)
    if difference.same_tensors:
        out.lines(["All tensors are the same to the bit."])
        return
    for title in ("changed", "added", "removed"):
        named = [
            f"{item}.{tensor}"
            for item, change in difference.items.items()
            for tensor in getattr(change, title)
        ]
        if named:
            out.heading(title.capitalize())
            out.lines(f"  {name}" for name in named[:_NAMED])
            if len(named) > _NAMED:
                out.lines([f"  and {count(len(named) - _NAMED, 'other')}; --json names them"])


def _show_norms(out: Output, difference: Any) -> None:
    out.heading("How far the tensors moved (L2 norms)")
    titles = ("A", "B", "B - A", "LARGEST")
    out.table(
        (Column("TENSOR"), *(Column(title, right=True) for title in titles)),
        [
            (
                f"{item}.{name}",
                *(number(v) for v in (t.before, t.after, t.difference, t.largest)),
            )
            for item, tensors in difference.tensors.items()
            for name, t in sorted(tensors.items(), key=lambda pair: -pair[1].difference)
        ],
    )


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    return f"+{number(value)}" if value > 0 else number(value)
