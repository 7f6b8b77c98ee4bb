"""runs, ls, best, latest."""

import pytest

import holdfast
from tests.cli.conftest import RUNS


@pytest.fixture
def kept(original):
    """The checkpoints of the store, as the library lists them."""
    with holdfast.open(original, mode="r") as store:
        return store.checkpoints()


def test_runs_are_listed_with_what_they_hold(ask, original):
    answer = ask(original, "runs")
    heading, *rows = answer.out.splitlines()
    assert answer.code == 0
    assert (
        heading == "RUN            STATUS    CHECKPOINTS  STEP  BEST             STORED  LAST SAVED"
    )
    assert [row.split()[0] for row in rows] == list(RUNS)
    assert "finished" in rows[0]
    assert "val_loss 0.1000" in rows[0]


def test_runs_as_json_name_every_figure(ask, original):
    first, second = ask(original, "runs", "--json").data
    assert first["name"] == "digits-cnn"
    assert first["status"] == "finished"
    assert first["best"] == pytest.approx(0.1)
    assert first["config"] == {"lr": 3e-4, "net": {"depth": 4}}
    assert first["checkpoints"] > 0 < first["stored_nbytes"]
    assert second["last_step"] == 6


def test_quiet_runs_are_names_alone(ask, original):
    assert ask(original, "runs", "-q").out.splitlines() == list(RUNS)


def test_a_store_without_runs_says_so(ask, tmp_path):
    holdfast.open(tmp_path / "empty").close()
    assert "no runs yet" in ask(tmp_path / "empty", "runs").out
    assert ask(tmp_path / "empty", "runs", "--json").data == []
    assert ask(tmp_path / "empty", "ls").out == "No checkpoints.\n"


def test_a_pipe_gets_every_column_in_full(ask, original, kept):
    answer = ask(original, "ls")
    for checkpoint, row in zip(kept, answer.out.splitlines()[1:], strict=True):
        assert row.split()[:2] == [checkpoint.id, str(checkpoint.step)]
        assert f"{checkpoint.metrics['val_loss']:.4f}" in row
        assert ("thinned" in row) == checkpoint.thinned
    assert "eval/accuracy" in answer.out.splitlines()[0]
    assert "\x1b" not in answer.out


def test_checkpoints_as_json_carry_the_same_keys_each(ask, original, kept):
    found = ask(original, "--json", "ls", "digits-cnn").data
    assert [entry["id"] for entry in found] == [c.id for c in kept if c.run == "digits-cnn"]
    assert len({tuple(entry) for entry in found}) == 1
    assert found[0]["metrics"].keys() == {"val_loss", "eval/accuracy"}
    assert found[0]["created"].endswith("+00:00")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--where", "val_loss < 0.15"), lambda c: c.metrics["val_loss"] < 0.15),
        (("--where", "step >= 10 and thinned = false"), lambda c: c.step >= 10 and not c.thinned),
        (("--where", 'run = "study*"'), lambda c: c.run.startswith("study")),
    ],
)
def test_a_filter_chooses_rows(ask, original, kept, options, expected):
    wanted = [c.id for c in kept if expected(c)]
    assert wanted
    assert ask(original, "ls", "-q", *options).out.splitlines() == wanted


def test_order_and_limit_are_obeyed(ask, original, kept):
    by_loss = sorted(kept, key=lambda c: (c.metrics["val_loss"], c.created_at))
    found = ask(original, "ls", "--order-by", "val_loss", "--limit", 2, "--json").data
    assert [entry["id"] for entry in found] == [c.id for c in by_loss[:2]]


@pytest.mark.parametrize(
    "words",
    [
        ("digits-cnn",),
        ("digits-cnn", "val_loss"),
        ("digits-cnn", "--metric", "val_loss"),
        ("digits-cnn", "eval/accuracy"),
    ],
)
def test_the_best_of_a_run_is_found_however_it_is_asked_for(ask, original, words):
    with holdfast.open(original, mode="r") as store:
        best = store.get("digits-cnn@best:val_loss")
    answer = ask(original, "best", *words, "--json")
    assert answer.data["id"] == best.id
    assert answer.data["path"] == str(best.path)


def test_the_best_of_all_runs_needs_a_metric_alone(ask, original):
    with holdfast.open(original, mode="r") as store:
        best = store.best("val_loss").id
    assert ask(original, "best", "val_loss", "-q").out == f"{best}\n"
    assert ask(original, "best", "-m", "val_loss", "-q").out == f"{best}\n"


def test_best_without_anything_to_go_by_says_what_to_type(ask, original):
    answer = ask(original, "best")
    assert answer.code == 2
    assert "holdfast best RUN" in answer.err
    assert ask(original, "best", "digits-cnn", "a", "-m", "b").code == 2


def test_the_latest_is_the_one_saved_last(ask, original, kept):
    assert ask(original, "latest", "-q").out == f"{kept[0].id}\n"
    assert ask(original, "latest", "digits-cnn", "--json").data["step"] == 11


def test_pins_and_tags_stand_among_the_notes(ask, root):
    ask(root, "tag", "digits-cnn@latest", "prod")
    ask(root, "pin", "digits-cnn@latest")
    assert "pinned, #prod" in ask(root, "ls", "digits-cnn").out
