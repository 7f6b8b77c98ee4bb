"""show, explain, history, diff."""

import csv
import io

import pytest

import holdfast


def test_show_tells_all_and_its_lines_of_python_load_it(ask, original):
    answer = ask(original, "show", "digits-cnn@best")
    assert answer.code == 0
    for words in ("val_loss", "net.depth", "model", "improved: val_loss", "saved   ", " UTC"):
        assert words in answer.out
    code = answer.out.partition("Load it\n")[2]
    assert len(code.splitlines()) == 3
    names = {"model": {"w": None, "frozen": None}}
    state = holdfast.open(original, mode="r").get("digits-cnn@best").load("model")
    names["model"] = {name: array * 0 for name, array in state.items()}
    exec(code, names)
    assert (names["model"]["w"] == state["w"]).all()


def test_show_as_json_holds_what_the_objects_say(ask, original):
    with holdfast.open(original, mode="r") as store:
        best = store.get("digits-cnn@best")
        data = ask(original, "show", best.id, "--json").data
        assert (data["id"], data["step"], data["config"]) == (best.id, 6, best.config)
        assert data["item_nbytes"].keys() == set(best.items)
    assert data["finite"]["model"] is True


def test_quiet_show_is_the_folder_alone(ask, original):
    with holdfast.open(original, mode="r") as store:
        path = store.get("digits-cnn@best").path
    assert ask(original, "show", "digits-cnn@best", "-q").out == f"{path}\n"


def test_a_skipped_step_is_explained(ask, original):
    answer = ask(original, "explain", "digits-cnn@step:9")
    assert answer.code == 0
    assert "not saved" in answer.out
    assert "There is no checkpoint of it." in answer.out
    data = ask(original, "explain", "digits-cnn@step:9", "--json").data
    assert data["checkpoint"] is None
    assert [report["saved"] for report in data["reports"]] == [False]


def test_a_deleted_checkpoint_is_explained_by_its_step_and_by_its_id(ask, original):
    told = ask(original, "explain", "digits-cnn@step:1", "--json").data
    fates = [decision["fate"] for decision in told["decisions"]]
    assert (fates[0], fates[-1]) == ("saved", "deleted")
    gone = told["decisions"][-1]["checkpoint"]
    answer = ask(original, "explain", gone)
    assert answer.code == 0
    assert "deleted  not among the best 2 by val_loss" in answer.out
    assert "It does not exist any more." in answer.out


def test_a_kept_checkpoint_says_what_a_clean_up_would_do_now(ask, original):
    answer = ask(original, "explain", "digits-cnn@best")
    assert "A clean-up now would keep it: best 2 by val_loss: rank 1" in answer.out
    assert ask(original, "explain", "digits-cnn@best", "--json").data["now"]["fate"] == "kept"


def test_what_never_was_is_not_explained(ask, original):
    assert ask(original, "explain", "digits-cnn@step:99").code == 3
    assert ask(original, "explain", "digits-cnn_20200101_000000").code == 3


def test_history_is_a_table_csv_json_or_a_plot(ask, original):
    where = ("history", "digits-cnn", "val_loss")
    with holdfast.open(original, mode="r") as store:
        points = store["digits-cnn"].history("val_loss")
    table = ask(original, *where).out.splitlines()
    assert table[0].split() == ["STEP", "val_loss"]
    assert [int(row.split()[0]) for row in table[1:]] == [step for step, _ in points]
    rows = list(csv.reader(io.StringIO(ask(original, *where, "--csv").out)))
    assert rows[0] == ["step", "val_loss"]
    assert [(int(step), float(value)) for step, value in rows[1:]] == points
    assert [
        (point["step"], point["value"]) for point in ask(original, *where, "--json").data["points"]
    ] == points
    drawn = ask(original, *where, "--plot").out.splitlines()
    assert drawn[0] == "val_loss of digits-cnn"
    assert drawn[1].startswith("0.7000 ┤")
    assert drawn[-1].split() == ["step", "0", "11"]


def test_history_of_an_unknown_metric_names_the_known_ones(ask, original):
    answer = ask(original, "history", "digits-cnn", "los")
    assert answer.code == 3
    assert "eval/accuracy, val_loss" in answer.err


@pytest.mark.parametrize("options", [("--plot", "--csv"), ("--plot", "--json")])
def test_two_forms_at_once_are_refused(ask, original, options):
    answer = ask(original, "history", "digits-cnn", "val_loss", *options)
    assert answer.code == 2
    assert answer.out == ""


def test_diff_shows_metrics_and_tensors(ask, original):
    answer = ask(original, "diff", "digits-cnn@best", "digits-cnn@latest")
    assert answer.code == 0
    assert "+0.5000" in answer.out
    assert "model.w" in answer.out
    assert "model.frozen" not in answer.out


def test_norms_say_how_far_a_tensor_moved(ask, original):
    arguments = ("diff", "digits-cnn@best", "digits-cnn@latest", "--norms")
    moved = ask(original, *arguments, "--json").data["tensors"]["model"]["w"]
    # Five steps of 0.5 in each of 400 elements.
    assert moved["largest"] == pytest.approx(2.5)
    assert moved["difference"] == pytest.approx(2.5 * 20)
    assert "  50  " in ask(original, *arguments).out


def test_a_checkpoint_does_not_differ_from_itself(ask, original):
    answer = ask(original, "diff", "digits-cnn@best", "digits-cnn@step:6")
    assert "All tensors are the same to the bit." in answer.out
