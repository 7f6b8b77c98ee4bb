"""Listings: filters, orders, pages; the same on both databases as on a plain list."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from holdfast.catalog import Catalog, pages
from holdfast.errors import ConfigError
from holdfast.model import CheckpointRecord, RunFacts, RunInfo
from tests.catalog.records import checkpoint, numbers


def made(number: int, chance: random.Random) -> CheckpointRecord:
    """Returns a checkpoint with a bit of everything."""
    metrics = {"loss": chance.choice([0.1, 0.2, 0.3, 0.4]), "eval/acc": chance.random()}
    if number % 7 == 0:
        metrics = {"loss": math.nan}
    if number % 11 == 0:
        metrics = {"loss": -math.inf, "step": 5.0}
    return checkpoint(
        number,
        chance.choice(["digits", "digits-2", "Digits", "study/trial_1", "study/trialx1"]),
        step=chance.randrange(20),
        epoch=chance.choice([None, 1, 2]),
        metrics=metrics,
        kind=chance.choice(["full", "full", "weights", "partial", "metrics"]),
        damaged=number % 13 == 0,
        pinned=number % 9 == 0,
        thinned=number % 8 == 0,
        tags=tuple(sorted(chance.sample(["prod", "paper", "50%", "a[b]"], number % 3))),
        reason=chance.choice(["improved: loss 0.2", "interval", "forced"]),
        nbytes=chance.choice([1, 2, 3]),
    )


RECORDS = [made(number, random.Random(number)) for number in range(60)]


def loss(record: CheckpointRecord) -> float | None:
    """Returns the finite loss of a record."""
    value = record.info.metrics.get("loss", math.nan)
    return value if math.isfinite(value) else None


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """A catalog of the records above."""
    with catalog.transaction():
        for name in sorted({record.info.run for record in RECORDS}):
            own = tuple(record for record in RECORDS if record.info.run == name)
            catalog.replace_run(RunFacts(RunInfo(name, 1.0), own, (), ()))
    return catalog


FILTERS: list[tuple[str, Any]] = [
    ("loss < 0.3", lambda one: loss(one) is not None and loss(one) < 0.3),
    ("loss <= 0.3", lambda one: loss(one) is not None and loss(one) <= 0.3),
    ("loss > 0.1", lambda one: loss(one) is not None and loss(one) > 0.1),
    ("loss = 0.2", lambda one: loss(one) == 0.2),
    ("loss != 0.2", lambda one: loss(one) not in (None, 0.2)),
    ("eval/acc >= 0.5", lambda one: one.info.metrics.get("eval/acc", 0) >= 0.5),
    ("`step` = 5", lambda one: one.info.metrics.get("step") == 5),
    ("step >= 10", lambda one: one.info.step >= 10),
    ("step < 9.5", lambda one: one.info.step < 9.5),
    ("step = 99999999999999999999", lambda _: False),
    ("epoch = 1", lambda one: one.info.epoch == 1),
    ("epoch != 1", lambda one: one.info.epoch == 2),
    ("created_at >= 1700000030", lambda one: one.info.created_at >= 1_700_000_030),
    ("kind = full", lambda one: one.info.kind == "full"),
    ("kind != full", lambda one: one.info.kind != "full"),
    ("reason = improved", lambda one: one.info.reason.startswith("improved")),
    ('run = "digits*"', lambda one: one.info.run.startswith("digits")),
    ("run = digits", lambda one: one.info.run == "digits"),
    ("run != digits", lambda one: one.info.run != "digits"),
    ("run = study/trial_1*", lambda one: one.info.run == "study/trial_1"),
    ("run = study/trial?1", lambda one: one.info.run.startswith("study/")),
    ("run = nobody*", lambda _: False),
    ("epoch < 2", lambda one: one.info.epoch == 1),
    ("reason = forced", lambda one: one.info.reason == "forced"),
    (
        "thinned = true and kind = full and eval/acc > 0.1",
        lambda one: (
            one.info.thinned
            and one.info.kind == "full"
            and one.info.metrics.get("eval/acc", 0) > 0.1
        ),
    ),
    (
        'run = "*" and loss < 0.3',
        lambda one: loss(one) is not None and loss(one) < 0.3,
    ),
    ("id = *_20260101_00000?", lambda one: numbers([one])[0] < 10),
    ("pinned = true", lambda one: one.info.pinned),
    ("pinned != true", lambda one: not one.info.pinned),
    ("pinned = false", lambda one: not one.info.pinned),
    ("damaged = true", lambda one: one.info.damaged),
    ("thinned = true", lambda one: one.info.thinned),
    ("tag = prod", lambda one: "prod" in one.info.tags),
    ("tag = p*", lambda one: bool({"prod", "paper"} & set(one.info.tags))),
    ("tag = 5*%", lambda one: "50%" in one.info.tags),
    ("tag = a[*", lambda one: "a[b]" in one.info.tags),
    ("tag != prod", lambda one: "prod" not in one.info.tags),
    ("tag = prod and tag = paper", lambda one: {"prod", "paper"} <= set(one.info.tags)),
    (
        "loss < 0.4 and step >= 5 and kind = full and run = digits*",
        lambda one: (
            loss(one) is not None
            and loss(one) < 0.4
            and one.info.step >= 5
            and one.info.kind == "full"
            and one.info.run.startswith("digits")
        ),
    ),
    ('tag = "\'; DROP TABLE holdfast_checkpoints; --"', lambda _: False),
    ("`x' OR 1=1 --` > 0", lambda _: False),
]


WORDS: dict[str | None, Any] = {
    "step < 10": lambda one: one.info.step < 10,
    "loss < 0.3": lambda one: loss(one) is not None and loss(one) < 0.3,
    "tag = prod": lambda one: "prod" in one.info.tags,
    "kind = full and loss < 0.4": lambda one: (
        one.info.kind == "full" and loss(one) is not None and loss(one) < 0.4
    ),
    'run = "*digits*"': lambda one: "digits" in one.info.run,
    'run = "*digits*" and loss < 0.3': lambda one: (
        "digits" in one.info.run and loss(one) is not None and loss(one) < 0.3
    ),
}


@pytest.fixture(params=[True, False], ids=["from few", "by walking"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to a page: from the few that a term names, and along an index."""
    if not request.param:
        monkeypatch.setattr(pages, "FEW", 0)
    return bool(request.param)


@pytest.mark.usefixtures("few")
def test_a_filter_selects_what_its_words_say(filled: Catalog) -> None:
    for where, wanted in FILTERS:
        expected = [number for number, one in enumerate(RECORDS) if wanted(one)]
        assert numbers(filled.checkpoints(where=where, order_by="created_at")) == expected, where
        assert filled.count(where=where) == len(expected), where
        within = [number for number in expected if RECORDS[number].info.run == "digits"]
        found = filled.checkpoints("digits", where=where, order_by="created_at")
        assert numbers(found) == within, where
        assert filled.count("digits", where=where) == len(within), where


def ordered(records: list[CheckpointRecord], order_by: str) -> list[int]:
    """Returns the numbers of records in an order, by the words of the rule."""
    name = order_by.removeprefix("-")
    columns = {
        "created_at": lambda one: one.info.created_at,
        "step": lambda one: one.info.step,
        "epoch": lambda one: one.info.epoch,
        "nbytes": lambda one: one.nbytes,
        "id": lambda one: one.info.id,
    }
    metric = name not in columns
    value = loss if metric else columns[name]
    down = order_by.startswith("-")
    found = sorted(
        records,
        key=lambda one: (one.info.created_at, one.info.id),
        reverse=down and not metric,
    )
    scored = [one for one in found if value(one) is not None]
    scored.sort(key=value, reverse=down)
    return numbers(scored + [one for one in found if value(one) is None])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("field", ["created_at", "step", "epoch", "nbytes", "id", "loss", "`loss`"])
def test_an_order_is_the_same_page_by_page(filled: Catalog, field: str, sign: str) -> None:
    plain = f"{sign}{field.strip('`')}"
    selections = [
        (None, None),
        ("digits", None),
        (None, "step < 10"),
        (None, "loss < 0.3"),
        ("digits", "loss < 0.3"),
        (None, "tag = prod"),
        (None, "kind = full and loss < 0.4"),
        (None, 'run = "*digits*"'),
        (None, 'run = "*digits*" and loss < 0.3'),
    ]
    for run, where in selections:
        matches = WORDS.get(where, lambda _: True)
        chosen = [one for one in RECORDS if run in (None, one.info.run) and matches(one)]
        expected = ordered(chosen, plain)
        asked = {"where": where, "order_by": sign + field}
        assert numbers(filled.checkpoints(run, **asked)) == expected
        pieces: list[int] = []
        for offset in range(0, len(RECORDS), 7):
            pieces += numbers(filled.checkpoints(run, **asked, limit=7, offset=offset))
        assert pieces == expected
        assert numbers(filled.checkpoints(run, **asked, offset=5)) == expected[5:]


def test_a_page_of_nothing_is_empty(filled: Catalog) -> None:
    assert filled.checkpoints(limit=0) == []
    assert filled.checkpoints("nobody") == []
    assert filled.checkpoints(order_by="loss", limit=5, offset=1000) == []


@pytest.mark.parametrize(
    "asked", [{"limit": -1}, {"offset": -1}, {"order_by": ""}, {"order_by": "-"}]
)
def test_a_page_that_cannot_be_meant_is_refused(catalog: Catalog, asked: Any) -> None:
    with pytest.raises(ConfigError):
        catalog.checkpoints(**asked)
