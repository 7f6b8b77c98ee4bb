"""What a damaged journal lost and the catalog still knows is said again, and protects."""

import pytest

import holdfast
from holdfast import keep, when
from tests.lifecycle.stores import train


@pytest.fixture
def root(tmp_path):
    """A store whose second checkpoint is pinned, tagged and scored after its run was finished."""
    with holdfast.open(tmp_path / "store") as store:
        train(store, "a", [3, 2, 1])
        saved = store.get("a@step:1")
        saved.pin()
        saved.tag("prod")
        saved.report(val_loss=0.5)
    return tmp_path / "store"


def lines(root, run="a"):
    return (root / "runs" / run / "journal.jsonl").read_bytes().splitlines(keepends=True)


def write(root, content, run="a"):
    (root / "runs" / run / "journal.jsonl").write_bytes(b"".join(content))


def spoilt(line):
    return line.replace(b'"t"', b'"u"', 1)


def zeroed(line):
    return bytes(len(line))


def without_line_feed(line):
    return line[:-1] + b"\x1a"


def state(store):
    checkpoint = store.get("a@step:1")
    return checkpoint.pinned, checkpoint.tags, checkpoint.metrics


KNOWN = (True, ("prod",), {"loss": 2.0, "val_loss": 0.5})

#: What happens to the last three lines: the pin, the tag and the late metric.
DAMAGE = {
    "the pin's line is damaged": lambda said: [*said[:-3], spoilt(said[-3]), *said[-2:]],
    "the last line feed is another byte": lambda said: [*said[:-1], without_line_feed(said[-1])],
    "the last three lines are zeroed": lambda said: [*said[:-3], *map(zeroed, said[-3:])],
    "the last three lines are cut off": lambda said: said[:-3],
    "all is cut off": lambda said: [],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_the_catalog_knows_outlives_the_journal_and_a_lost_catalog(root, damage):
    write(root, damage(lines(root)))
    with holdfast.open(root) as store:
        found = store.verify()
        assert "a" in found.journals
        assert state(store) == KNOWN
    for path in root.glob("catalog.sqlite3*"):
        path.unlink()
    with holdfast.open(root) as store:
        assert state(store) == KNOWN
        assert "a" in store.verify().journals


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_pin_whose_line_is_damaged_protects_from_a_clean_up(root, damage):
    write(root, damage(lines(root)))
    with holdfast.open(root) as store:
        store.prune("a", policy=keep.latest(1)).apply()
        assert [c.step for c in store.checkpoints("a", order_by="step")] == [1, 2]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_opening_the_run_keeps_a_pin_whose_line_is_damaged(root, damage):
    write(root, damage(lines(root)))
    with holdfast.open(root) as store:
        train(store, "a", [5], policy=keep.latest(1))
    with holdfast.open(root) as store:
        assert state(store) == KNOWN


def test_what_was_said_again_is_not_said_a_third_time(root):
    write(root, lines(root)[:-3])
    with holdfast.open(root) as store:
        store.verify()
    before = len(lines(root))
    with holdfast.open(root) as store:
        store.verify()
    kinds = [line.split(b'"')[3] for line in lines(root)[before:]]
    assert set(kinds) <= {b"verified"}


def test_metrics_alone_that_a_power_cut_took_are_no_damage(root):
    write(root, lines(root)[:-1])
    with holdfast.open(root) as store:
        assert state(store) == KNOWN
        assert store.verify().ok


def test_a_sound_journal_is_not_written_to(root):
    before = lines(root)
    holdfast.open(root).close()
    assert lines(root) == before


def test_the_journal_of_another_run_is_damage_and_says_nothing(root):
    with holdfast.open(root) as store:
        train(store, "b", [7, 8])
        with store.run("b", metric="loss", save=when.never()) as run:
            run.step(5, {"loss": 9.0})
        store.get("b@step:1").pin()
    one, other = lines(root, "a"), lines(root, "b")
    write(root, other, "a")
    write(root, one, "b")
    with holdfast.open(root) as store:
        found = store.verify()
        assert set(found.journals) == {"a", "b"}
        assert not found.damaged
        assert "holds lines of the run 'b'" in " ".join(found.journals["a"])
        assert state(store) == KNOWN
        assert store.get("b@step:1").pinned
        assert store["a"].info.name == "a"
        assert {value for _, value in store["a"].history("loss")} <= {3, 2, 1}
