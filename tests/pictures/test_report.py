"""A report holds all that is known of a run, and nothing of a run can do anything in it."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

import holdfast
from holdfast import NotFoundError, keep, when
from holdfast.pictures import report
from holdfast.readable import nbytes_text
from tests.pictures.conftest import ATTACK

NOW = 1_800_000_000.0
#: HTML Living Standard, 13.1.2: elements without an end tag.
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """What a page holds: its tags, its attributes, its text; refuses a page that does not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "\n".join(word.strip() for word in self.words if word.strip())

    def named(self, name):
        return [value for _, found, value in self.attributes if found == name]


@pytest.fixture(scope="module")
def page(store):
    return Page(report(store, "study/vit", now=NOW))


def test_it_says_what_the_store_says(store, page):
    run = store["study/vit"]
    best = run.best()
    usage = store.usage().of("study/vit")
    for words in (
        run.status,
        f"val_loss {best.metrics['val_loss']:.4f} at step {best.step}",
        "improved: val_loss",
        "net.depth",
        run.info.policies["keep"],
        f"holdfast --store {store.path} show study/vit@best",
        nbytes_text(usage.stored_nbytes),
        "Input/output error",
        "2027-01-15 08:00:00 UTC",
        "pinned",
        "#prod",
        "numpy",
    ):
        assert words in page.text, words
    assert all(checkpoint.id in page.text for checkpoint in run.checkpoints())


def test_each_checkpoint_says_why_it_was_saved_and_what_became_of_it(store, page):
    from holdfast.insight import Course, marks_of

    course = Course(store["study/vit"])
    course.refresh()
    gone = [mark for mark in marks_of(store["study/vit"], course) if mark.fate == "deleted"]
    assert gone
    for mark in gone:
        assert mark.reason in page.text
        assert mark.why in page.text


def test_it_runs_nothing_and_asks_for_nothing(page):
    policy = next(v for v in page.named("content") if "default-src" in v)
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert page.tags.index("meta") < page.tags.index("style")
    assert set(page.tags) & {"script", "iframe", "object", "embed", "img", "form", "base"} == set()
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"href", "src", "xlink:href", "srcset", "action", "data"}:
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert [v for v in page.named("style") if "url(" in v and "url(#" not in v] == []


def test_no_two_parts_of_it_have_one_name(page):
    names = page.named("id")
    assert len(names) == len(set(names))
    referred = {value[1:] for value in page.named("xlink:href")}
    referred |= set(re.findall(r"url\(#([^)]*)\)", " ".join(page.named("clip-path"))))
    assert referred
    assert referred <= set(names)


def test_its_pictures_follow_the_light(store, page):
    text = report(store, "study/vit", now=NOW)
    drawings = text[text.index("<figure") : text.rindex("</figure>")]
    assert "var(--chart-paper)" in drawings
    assert re.findall(r"#[0-9a-f]{6}", drawings) == []
    assert "prefers-color-scheme:dark" in text


@pytest.fixture(scope="module")
def attacked(hostile):
    return report(hostile, "run", now=NOW)


def test_what_a_run_names_is_text_and_nothing_else(attacked):
    page = Page(attacked)
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert "<script" not in attacked
    assert not [name for _, name, _ in page.attributes if "alert" in name]
    # Everywhere where it was named: metric, configuration, reason, metadata.
    assert unescape(attacked).count(ATTACK) > 10
    assert f"deep.{ATTACK}" in page.text


def test_what_cannot_be_seen_is_shown_as_what_it_is(attacked):
    assert not set(attacked) & set("\u202e\x00\x1b")
    assert "\\u202e\\x00\\x1b[31m" in attacked


def test_a_run_of_another_name_is_not_found(store):
    with pytest.raises(NotFoundError, match="study/vit"):
        report(store, "study/vi", now=NOW)


def test_a_run_that_did_nothing_has_a_report(tmp_path):
    with holdfast.open(tmp_path / "store") as store, store.run("run", save=when.never()):
        page = Page(report(store, "run", now=NOW))
    assert "no step yet" in page.text
    assert page.text.count("There is none.") == 2


def test_of_very_many_checkpoints_those_that_are_there_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr("holdfast.pictures.facts.MOST_ROWS", 5)
    with holdfast.open(tmp_path / "store") as store:
        with store.run("run", save=when.never(), keep=keep.latest(1)) as run:
            run.attach(model={"w": np.zeros(2)})
            first = run.save(0).wait()
            first.pin()
            for step in range(1, 10):
                run.save(step).wait()
        text = report(store, "run", now=NOW)
    page = Page(text)
    assert f"<small>{first.id}</small>" in text.partition("<h2>Decisions")[0]
    assert "5 older ones, all of them gone or failed, are not shown." in page.text
    assert "5 newest;" in page.text
    assert "older ones are not shown" in page.text
