"""A chart shows what the run holds, the same bytes each time, whatever a run is called."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import holdfast
from holdfast import ConfigError, NotFoundError, keep, when
from holdfast.pictures import chart
from holdfast.pictures.palette import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_the_same_run_gives_the_same_bytes(store):
    for format in ("svg", "png"):
        first, second = (
            chart(store["study/vit"], format, width=400, metrics=["lr"]) for _ in range(2)
        )
        assert first == second


def test_nobodys_settings_change_the_picture_and_it_changes_nobodys(store):
    import matplotlib as mpl

    before = chart(store["study/vit"], "svg", metrics=["lr"])
    with mpl.rc_context({"axes.ymargin": 0.4, "svg.hashsalt": "mine", "font.size": 30}):
        assert chart(store["study/vit"], "svg", metrics=["lr"]) == before
        assert mpl.rcParams["svg.hashsalt"] == "mine"
        assert mpl.rcParams["text.parse_math"] is True


def test_threads_draw_at_once_and_get_their_own_pictures(store):
    expected = {
        dark: chart(store["study/vit"], "svg", metrics=["lr"], dark=dark) for dark in (False, True)
    }
    found = []

    def draw(dark):
        found.append((dark, chart(store["study/vit"], "svg", metrics=["lr"], dark=dark)))

    threads = [threading.Thread(target=draw, args=(place % 2 == 0,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(expected[dark] == picture for dark, picture in found)


def test_every_kind_of_mark_stands_in_the_legend_with_its_number(store):
    from holdfast.insight import Course, marks_of

    course = Course(store["study/vit"])
    course.refresh()
    marks = marks_of(store["study/vit"], course)
    said = texts(chart(store["study/vit"], "svg"))
    for fate in ("kept", "thinned", "deleted", "failed"):
        number = sum(mark.fate == fate for mark in marks)
        assert number > 0
        assert f"{fate} {number}" in said
    assert {"best 1", "pinned 1"} <= set(said)


def test_its_own_metric_comes_first_then_what_measures_the_same(store):
    said = texts(chart(store["study/vit"], "svg"))
    places = [said.index(name) for name in ("val_loss", "loss", "lr")]
    assert "study/vit" in said
    assert places == sorted(places)
    chosen = texts(chart(store["study/vit"], "svg", metrics=["lr"]))
    assert "lr" in chosen
    assert "loss" not in chosen


def test_sizes_are_pixels(store):
    assert size(chart(store["study/vit"], width=640, height=500)) == (640, 500)
    assert size(chart(store["study/vit"], width=1200))[0] == 1200


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_no_two_colours_are_the_same_and_names_can_be_read(palette):
    colours = list(palette.named().values())
    assert len(set(colours)) == len(colours)
    for name, least in (("ink", 7.0), ("muted", 4.5), ("line", 3.0), ("failed", 3.0)):
        assert contrast(palette.named()[name], palette.paper) >= least, name


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, success criterion 1.4.3."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


WRONG = [
    ({"width": 299}, ConfigError, "299 pixels"),
    ({"height": 9000}, ConfigError, "9000 pixels"),
    ({"width": 300, "height": 300, "metrics": ["lr", "loss", "val_loss"]}, ConfigError, "height"),
    ({"metrics": [f"m{i}" for i in range(8)]}, ConfigError, "8 metrics"),
    ({"metrics": ["val_los"]}, NotFoundError, "no 'val_los'"),
]


@pytest.mark.parametrize(("options", "kind", "words"), WRONG)
def test_what_cannot_be_drawn_says_so(store, options, kind, words):
    with pytest.raises(kind, match=words):
        chart(store["study/vit"], **options)


def test_a_logarithmic_scale_is_there_when_asked_for(store):
    plain, log = (texts(chart(store["study/vit"], "svg", log=log)) for log in (False, True))
    assert "val_loss (log)" in log
    assert "val_loss" in plain
    with holdfast.open(store.path.parent / "below") as other:
        with other.run("run", save=when.never()) as run:
            run.step(0, {"gain": -1.0})
            run.step(1, {"gain": -2.0})
        with pytest.raises(ConfigError, match="no value above 0"):
            chart(other["run"], metrics=["gain"], log=True)
        assert "gain" in texts(chart(other["run"], "svg", log=True))


def test_a_run_that_reported_nothing_has_a_chart(tmp_path):
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.all()) as run:
            run.attach(model={"w": np.zeros(2)})
            assert "no metric was reported yet" in texts(chart(store["run"], "svg"))
            run.save(3).wait()
        assert "kept 1" in texts(chart(store["run"], "svg"))


def test_names_are_drawn_as_they_are_written(hostile):
    svg = chart(hostile["run"], "svg")
    said = texts(svg)
    assert "<script>alert('1')</script>\"&" in said
    assert "$x^{$" in said
    assert b"<script" not in svg
    assert size(chart(hostile["run"]))[0] == 1000


EXTREME = st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 5e-324, 1.0])


@settings(max_examples=8, deadline=None)
@given(values=st.lists(EXTREME, max_size=6), log=st.booleans(), far=st.booleans())
def test_any_number_can_be_drawn(tmp_path_factory, values, log, far):
    with holdfast.open(tmp_path_factory.mktemp("any") / "store") as store:
        with store.run("run", metric="loss", save=when.never()) as run:
            for step, value in enumerate(values):
                run.step(step * (10**12 if far else 1), loss=value)
        assert ET.fromstring(chart(store["run"], "svg", width=300, log=log)).tag == f"{SVG}svg"


def test_a_long_run_is_no_larger_picture(tmp_path):
    pytest.importorskip("tsdownsample", reason="the extra 'plots' is not installed")
    with holdfast.open(tmp_path / "store") as store:
        for name, steps in (("short", 1500), ("long", 6000)):
            values = np.random.default_rng(1).normal(size=steps)
            with store.run(name, save=when.never()) as run:
                for step, value in enumerate(values.tolist()):
                    run.step(step, loss=value)
        short, long = (chart(store[name], "svg", width=300) for name in ("short", "long"))
    points = [max(map(len, re.findall(rb'd="([^"]*)"', svg))) for svg in (short, long)]
    assert points[1] < points[0] * 1.2


def test_without_matplotlib_one_error_says_what_to_install(store):
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "import importlib.util, holdfast\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n: None if n == 'matplotlib' else find(n)\n"
        "from holdfast.pictures import chart\n"
        f"store = holdfast.open({str(store.path)!r}, mode='r')\n"
        "try:\n    chart(store['other'])\n"
        "except holdfast.ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == (
        "a chart needs matplotlib, which is not installed (pip install 'holdfast[plots]')\n"
    )
