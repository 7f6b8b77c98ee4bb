"""Pages of checkpoints: together they are the list, whatever is saved or deleted in between."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast import ConfigError, keep, when
from holdfast.dashboard.api.listing import Question, page, rows
from tests.dashboard.asking import asking, copied, train

ORDERS = ("-created_at", "created_at", "step", "-step", "id", "-nbytes", "epoch", "loss", "-loss")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with two runs: ties, gaps and no numbers among their values."""
    place = tmp_path_factory.mktemp("paging") / "store"
    with holdfast.open(place) as store:
        for name in ("a", "b"):
            with store.run(name, save=when.never(), keep=keep.all()) as run:
                for step in range(7):
                    loss = {2: float("nan"), 4: 1.0, 5: 1.0, 6: math.inf}.get(step, step / 10)
                    metrics = {} if step == 3 else {"loss": loss}
                    run.step(step, metrics, epoch=None if step % 3 else step)
                    run.save(step, metrics, kind="metrics").wait()
    return place


@pytest.fixture
def place(original, tmp_path):
    return copied(original, tmp_path / "store")


def listed(store, question, limit, between=lambda number: None):
    """Returns the ids of all pages, doing something between two."""
    ids, cursor, number = [], None, 0
    while True:
        found = page(store, question, limit=limit, cursor=cursor)
        ids += [one.id for one in found.items]
        cursor = found.cursor
        if cursor is None:
            return ids
        assert len(found.items) == limit
        between(number)
        number += 1


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize("limit", [1, 3, 7, 14, 1000])
def test_all_pages_together_are_the_list(original, order_by, limit):
    with holdfast.open(original, mode="r") as store:
        for run, where in ((None, None), ("a", None), (None, "loss < 2"), ("b", "step >= 2")):
            whole = store.checkpoints(run, where=where, order_by=order_by)
            found = listed(store, Question(run, where, order_by), limit)
            assert found == [one.id for one in whole]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order_by=st.sampled_from(ORDERS),
    limit=st.integers(1, 6),
    deeds=st.lists(
        st.one_of(st.just("save"), st.tuples(st.just("delete"), st.integers(0, 13))), max_size=6
    ),
)
def test_what_was_there_all_along_is_listed_once_and_what_came_later_is_not(
    original, tmp_path_factory, order_by, limit, deeds
):
    place = copied(original, tmp_path_factory.mktemp("pages") / "store")
    with holdfast.open(place) as store:
        before = [one.id for one in store.checkpoints(order_by=order_by)]
        gone = set()

        def disturb(number):
            if number >= len(deeds):
                return
            if deeds[number] == "save":
                with store.run("a", save=when.never(), keep=keep.all()) as run:
                    run.save(100 + number, {"loss": 0.15}, kind="metrics").wait()
            else:
                victim = before[deeds[number][1]]
                if victim not in gone:
                    gone.add(victim)
                    store.delete(victim).apply()

        found = listed(store, Question(None, None, order_by), limit, disturb)
    assert len(found) == len(set(found))
    assert [name for name in found if name not in gone] == [i for i in before if i not in gone]


def test_a_late_metric_moves_a_checkpoint_but_tears_no_page(place):
    with holdfast.open(place) as store:
        question = Question(None, None, "loss")
        before = [one.id for one in store.checkpoints(order_by="loss")]

        def report(number):
            if number == 1:
                # The last of the page moves to the end of the list.
                store.get(before[3]).report(loss=50.0)

        found = listed(store, question, 2, report)
        assert [name for name in found if name != before[3]] == [
            name for name in before if name != before[3]
        ]


def test_a_clock_that_was_set_back_hides_no_checkpoint(place, monkeypatch):
    with holdfast.open(place) as store:
        monkeypatch.setattr("holdfast.dashboard.api.listing.time.time", lambda: 1000.0)
        assert len(listed(store, Question(None, None, "-created_at"), 3)) == 14


def test_a_cursor_belongs_to_its_question_and_its_store(place, tmp_path):
    question = Question("a", "step >= 0", "step")
    train(tmp_path / "other", "a")
    with holdfast.open(place) as store, holdfast.open(tmp_path / "other") as other:
        cursor = page(store, question, limit=2).cursor
        assert len(page(store, question, limit=5, cursor=cursor).items) == 5
        others = (
            (store, Question("b", "step >= 0", "step")),
            (store, Question("a", "step >= 1", "step")),
            (store, Question("a", "step >= 0", "-step")),
            (other, question),
        )
        for where, foreign in others:
            with pytest.raises(ConfigError, match="cursor"):
                page(where, foreign, limit=2, cursor=cursor)


def test_a_cursor_with_one_letter_changed_is_refused(place):
    question = Question(None, None, "-created_at")
    with holdfast.open(place) as store:
        cursor = page(store, question, limit=2).cursor
        damaged = [
            cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :]
            for i in range(0, len(cursor) - 1, 3)
        ]
        for text in (*damaged, cursor[:-2], "", "x", "ä", "=" * 9, cursor + "AAAA"):
            with pytest.raises(ConfigError, match="cursor"):
                page(store, question, limit=2, cursor=text)


def test_rows_by_number_are_a_stretch_of_the_list(original):
    with holdfast.open(original, mode="r") as store:
        whole = [one.id for one in store.checkpoints(order_by="step")]
        for start, end in ((0, 5), (3, 3), (10, 100), (50, 60)):
            found = rows(store, Question(None, None, "step"), start=start, end=end)
            assert [one.id for one in found.items] == whole[start:end]
            assert found.total == 14


def test_pages_over_http(original):
    with asking(original) as client:
        ids, asked = [], {"limit": 4}
        while asked.get("cursor", "") is not None:
            told = client.get("/api/v1/checkpoints", params=asked).json()
            ids += [one["id"] for one in told["items"]]
            assert told["total"] == 14
            asked["cursor"] = told["next"]
        assert ids == [one["id"] for one in client.get("/api/v1/checkpoints").json()["items"]]
        grid = client.get("/api/v1/checkpoints?start=2&end=5").json()
        assert [one["id"] for one in grid["items"]] == ids[2:5]
        for wrong in ("limit=0", "limit=1001", "start=-1", "start=0&end=1001", "start=5&end=2",
                      "start=1&limit=2", "start=0&end=5&cursor=x", "cursor=x", "where=loss",
                      "order_by=-", "limit=two"):  # fmt: skip
            answer = client.get(f"/api/v1/checkpoints?{wrong}")
            assert (answer.status_code, answer.json()["error"]["hint"] != "") == (422, True), wrong
