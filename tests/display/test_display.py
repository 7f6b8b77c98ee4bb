"""What a notebook shows: small, escaped, in the notebook's own colours, and never an error."""

from __future__ import annotations

import re

import numpy as np
import pytest

import holdfast
from holdfast import keep, when

ATTACK = "<script>alert('1')</script>\"&"


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "a<b>") as store:
        with store.run("run", metric=ATTACK, mode="min", save=when.never(), keep=keep.all()) as run:
            run.attach(model={"w": np.zeros(3)})
            for step in range(12):
                run.save(step, {ATTACK: float(step)}, reason=ATTACK).wait()
        yield store


def shown(thing):
    html = thing._repr_html_()
    # Only what this module writes: no attribute but a style, and no colour in it.
    tags = set(re.findall(r"</?([a-z]+)", html))
    assert tags <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert set(re.findall(r' ([a-z]+)="', re.sub(r">[^<]*<", "><", html))) <= {"style"}
    assert "#" not in "".join(re.findall(r'style="([^"]*)"', html))
    assert html.count("<td") == html.count("</td>")
    return html


def test_each_object_is_shown_and_escaped(store):
    best = store["run"].best()
    escaped = "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot;&amp;"
    for thing, words in (
        (best, (best.id, "model", escaped)),
        (store["run"], (store["run"].status, "12", escaped, "and 2 more")),
        (store, ("a&lt;b&gt;", "run", "stored", escaped)),
    ):
        html = shown(thing)
        for word in words:
            assert word in html


def test_a_run_that_is_written_is_shown_as_one_that_is_read(store):
    with store.run("other", save=when.never()) as run:
        assert "running" in shown(run)
        assert repr(run) == repr(store["other"])


def test_what_can_no_longer_be_read_says_why(store):
    run = store["run"]
    store.delete("run").apply()
    assert "has no run" in shown(run)
    store.close()
    assert "is closed" in shown(store)
    assert "&lt;Store" in shown(store)


def test_the_shell_of_notebooks_takes_it(store):
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    html = formatters.HTMLFormatter()
    assert html(store.latest()) == store.latest()._repr_html_()


def test_invisible_characters_are_shown_as_what_they_are(store):
    with store.run("odd", save=when.never(), keep=keep.all(), config={}) as run:
        run.attach(model={"w": np.zeros(3)})
        saved = run.save(0, {"\u202eloss": 1.0}).wait()
    assert "\\u202eloss" in shown(saved)
