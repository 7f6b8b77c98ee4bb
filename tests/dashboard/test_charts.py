"""Charts as data: what is drawn is what was reported, and no text of a run is ever a key."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.insight import Chain, Lineage, Mark, Node, Series

pytest.importorskip("nicegui")

from holdfast.dashboard.pages import branches, charts, grid


def series(values, steps=None):
    steps = range(len(values)) if steps is None else steps
    return Series(
        np.array(list(steps), np.int64), np.zeros(len(values)), np.array(values, float), len(values)
    )


def keys_of(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def functions_of(value):
    """What the browser makes functions of: the values of keys that begin with a colon."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key.startswith(":") else functions_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from functions_of(inner)


#: Texts as somebody who means harm would choose them.
texts = st.text(min_size=1, max_size=20).map(lambda text: f":{text}") | st.just(":x")


@settings(max_examples=40, deadline=None)
@given(metric=texts, tag=texts, reason=texts)
def test_no_text_of_a_run_is_a_key_of_what_the_browser_is_told(metric, tag, reason):
    mark = Mark("id", 1, 0.0, "kept", reason, reason, best=True, pinned=True, tags=(tag,))
    points = charts.mark_points([mark], series([1.0, 2.0]))
    chain = Chain(metric, "begin", (Node("id", 1, 0.0, True, tags=(tag,)),), reason, reason)
    context = {"run": metric, "where": tag, "metrics": [metric], "load": reason}
    for options in (
        charts.metric_chart([charts.Line(metric, series([1.0, 2.0]))], points),
        branches.lineage_chart(Lineage((chain,))),
        grid.grid_options(context),
    ):
        assert {metric, tag, reason} & set(keys_of(options)) == set()
        assert all(made.startswith("window.holdfast.") for made in functions_of(options))
        assert "html" not in str(options.get("tooltip", {}))


def test_what_is_not_finite_is_a_gap():
    assert charts.points(series([1.0, math.nan, math.inf, 2.0])) == [
        [0, 1.0],
        [1, None],
        [2, None],
        [3, 2.0],
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0], ""),
        ([0.0, 1.0], "0.0,27.0 100.0,1.0"),
        ([1.0, math.nan, 0.0], "0.0,1.0 100.0,27.0"),
        ([5.0, 5.0], "0.0,27.0 100.0,27.0"),
        ([-1.7e308, 1.7e308], "0.0,27.0 100.0,1.0"),
    ],
)
def test_a_sparkline_spans_its_height_whatever_its_values(values, expected):
    assert charts.spark_points(values, width=100, height=28) == expected


def test_a_stretch_is_in_full_and_what_is_outside_is_coarse():
    pytest.importorskip("tsdownsample")
    whole = series(np.sin(np.arange(50_000)))
    shown = charts.stretch(whole, 20_000, 20_500)
    within = [step for step in shown.steps if 20_000 <= step <= 20_500]
    assert within == list(range(20_000, 20_501))
    assert shown.steps[0] == 0
    assert shown.steps[-1] == 49_999
    assert len(shown.steps) < 501 + 2 * charts.POINTS // 5 + 1
    assert np.all(np.diff(shown.steps) > 0)
    assert len(charts.stretch(whole, None, None).steps) <= charts.POINTS


def test_marks_that_do_not_fit_leave_the_special_ones_and_some_of_each_stretch():
    marks = [Mark(f"m{n}", n, 0.0, "deleted") for n in range(5000)]
    marks[1234] = Mark("best", 1234, 0.0, "kept", best=True)
    marks[4000] = Mark("", 4000, 0.0, "failed")
    chosen = charts.chosen_marks(marks, None, None)
    assert len(chosen) <= charts.MARKS
    assert {"best", ""} <= {mark.id for mark in chosen}
    assert [mark.step for mark in chosen] == sorted(mark.step for mark in chosen)
    assert {mark.id for mark in charts.chosen_marks(marks, 100, 119)} == {
        f"m{n}" for n in range(100, 120)
    }


def test_a_mark_lies_on_the_line_at_the_newest_value_up_to_its_step():
    line = series([9.0, math.nan, 7.0], steps=[10, 20, 30])
    marks = [
        Mark("early", 5, 0.0, "deleted"),
        Mark("between", 25, 0.0, "thinned", pinned=True),
        Mark("at", 30, 0.0, "failed"),
        Mark("late", 99, 0.0, "kept", best=True),
    ]
    found = charts.mark_points(marks, line)
    assert {
        look: [(p["id"], p["value"]) for p in points] for look, points in found.items() if points
    } == {
        "deleted": [("early", [5, 9.0])],
        "thinned": [("between", [25, 9.0])],
        "pinned": [("between", [25, 9.0])],
        "failed": [("at", [30, 7.0])],
        "kept": [("late", [99, 7.0])],
        "best": [("late", [99, 7.0])],
    }
    assert not any(charts.mark_points(marks, series([])).values())


def test_fates_are_told_apart_by_shape_alone():
    shapes = [(look.symbol, look.hollow) for look in charts.LOOKS.values()]
    assert len(set(shapes)) == len(shapes)


def test_a_chart_says_in_words_what_it_shows():
    marks = [Mark("a", 1, 0.0, "kept"), Mark("b", 2, 0.0, "deleted")]
    said = charts.chart_label("loss", series([3.0, 1.0, math.nan, 2.0]), marks)
    assert said == (
        "loss over 4 reports up to step 3: now 2, between 1.0000 and 3; 1 checkpoints kept of 2"
    )
    assert charts.chart_label("loss", series([]), []) == "loss: nothing was reported yet"


def test_a_branch_is_drawn_from_what_it_branched_off():
    trunk = Chain("a", "begin", (Node("a1", 1, 0.0, True), Node("a2", 5, 1.0, False)))
    branch = Chain("b", "run", (Node("b1", 7, 2.0, True),), "a2")
    lost = Chain("c", "run", (Node("c1", 9, 3.0, True),), "gone")
    drawn = branches.lineage_chart(Lineage((trunk, branch, lost)))
    by_id = {one["id"]: one["data"] for one in drawn["series"]}
    assert by_id["branches"] == [{"coords": [[5, 0], [7, 1]]}]
    assert [one["value"] for one in by_id["nodes-kept"]] == [[1, 0], [7, 1], [9, 2]]
    assert [one["id"] for one in by_id["nodes-deleted"]] == [""]
