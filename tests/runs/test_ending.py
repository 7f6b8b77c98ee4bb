"""How a run ends: left, broken off, closed late; and what its status says."""

import signal

import pytest
import torch

import holdfast
from holdfast import when
from tests.runs.samples import attached, manual, slow, steps_of


def test_the_status_tells_how_a_run_ended(store):
    with manual(store) as run:
        assert run.status == store["run"].status == "running"
    assert run.status == store["run"].status == "finished"
    with pytest.raises(ZeroDivisionError), manual(store) as run:
        raise ZeroDivisionError
    assert store["run"].status == "failed"
    with pytest.raises(KeyboardInterrupt), manual(store) as run:
        raise KeyboardInterrupt
    assert store["run"].status == "interrupted"
    with pytest.raises(SystemExit), manual(store) as run:
        raise SystemExit
    assert store["run"].status == "interrupted"


def test_an_error_that_leaves_the_store_marks_its_runs_as_failed(place):
    with pytest.raises(ZeroDivisionError), holdfast.open(place) as store:  # noqa: PT012
        manual(store).save(0)
        raise ZeroDivisionError
    with holdfast.open(place) as store:
        assert store["run"].status == "failed"
        assert steps_of(store) == [0]


def test_closing_a_store_finishes_the_saves_of_all_its_runs(place):
    store = holdfast.open(place)
    runs = [manual(store, name) for name in ("a", "b")]
    with slow(store):
        for run in runs:
            run.save(0)
    store.close()
    with holdfast.open(place) as again:
        assert [c.run for c in again.checkpoints(order_by="run")] == ["a", "b"]


def test_one_run_that_failed_does_not_keep_the_others_from_closing(place):
    store = holdfast.open(place)
    runs = [manual(store, name) for name in ("a", "b", "c")]
    runs[1]._session.saver.counters.last_error = holdfast.SaveError("the medium failed")
    runs[1]._session.saver.counters.unrecovered = True
    with pytest.raises(holdfast.SaveError):
        store.close()
    assert [run.open for run in runs] == [False] * 3


def test_an_exception_finishes_what_was_promised(store):
    with pytest.raises(ZeroDivisionError), manual(store) as run:  # noqa: PT012
        with slow(store):
            run.save(0)
        raise ZeroDivisionError
    assert steps_of(store) == [0]


@pytest.mark.parametrize(
    "policy", [when.interrupted(), when.every(seconds=1e6) | when.interrupted()]
)
def test_an_exception_between_steps_is_followed_by_one_more_save(store, policy):
    with pytest.raises(ZeroDivisionError), store.run("run", save=policy) as run:  # noqa: PT012
        model = attached(run)
        run.step(0, loss=1.0)
        model["w"][:] = 1.0
        run.step(1, loss=0.5)
        raise ZeroDivisionError
    assert steps_of(store) == [1]
    assert store.latest().reason.startswith("interrupted")
    assert store.latest().metrics == {"loss": 0.5}


@pytest.mark.parametrize("within", [False, True])
def test_after_an_optimizers_step_the_last_save_needs_the_runs_step(store, log, within):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def learn():
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    with pytest.raises(ZeroDivisionError), store.run("run", save=when.interrupted()) as run:  # noqa: PT012
        run.attach(model=model)
        learn()
        run.step(0, loss=1.0)
        if within:
            learn()
        raise ZeroDivisionError
    assert steps_of(store) == ([] if within else [0])
    assert ("in the middle of a step" in log.text) == within


def test_without_the_policy_an_exception_saves_nothing_more(store):
    with pytest.raises(ZeroDivisionError), store.run("run", save=when.never()) as run:  # noqa: PT012
        attached(run)
        run.step(0, loss=1.0)
        raise ZeroDivisionError
    assert steps_of(store) == []


def test_ctrl_c_waits_for_the_step_boundary_and_saves_there(store):
    with pytest.raises(KeyboardInterrupt), store.run("run", save=when.interrupted()) as run:  # noqa: PT012
        model = attached(run)
        run.step(0, loss=1.0)
        signal.raise_signal(signal.SIGINT)
        model["w"][:] = 3.0
        run.step(1, loss=0.5)
        pytest.fail("the step after Ctrl-C goes on")
    assert steps_of(store) == [1]
    assert store.latest().load("model")["w"][0] == 3.0
    assert store["run"].status == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(store):
    with pytest.raises(KeyboardInterrupt), store.run("run", save=when.interrupted()) as run:  # noqa: PT012
        attached(run)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C waits")
    assert store["run"].status == "interrupted"


def test_sigterm_saves_at_the_next_step_asks_to_stop_and_calls_the_handler_before(store):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *args: heard.append(args[0]))
    try:
        save = when.every(steps=1000) | when.preempted()
        with store.run("run", save=save, backlog="skip") as run:
            attached(run)
            assert not run.step(0)
            signal.raise_signal(signal.SIGTERM)
            assert run.should_stop
            assert run.step(1).code == "preempted"
            assert steps_of(run) == [1]
        assert heard == [signal.SIGTERM]
        assert store["run"].status == "interrupted"
        assert signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None) is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_closed_run_refuses_and_says_how_to_go_on(store):
    run = manual(store)
    run.close()
    run.close()
    for act in (lambda: run.step(0), lambda: run.save(0), run.resume, run.finish):
        with pytest.raises(holdfast.ConfigError, match="closed"):
            act()
    assert run.checkpoints() == []


def test_the_closing_summary_is_logged_once(store, log):
    with manual(store, metric="loss") as run:
        run.save(0, {"loss": 0.234, "accuracy": 0.785})
    lines = [r.getMessage() for r in log.records]
    assert lines.count("Summary of run") == 1
    assert "  1 checkpoints saved, 0 failed, 0 left out, 1 kept" in lines
    assert any(line.startswith("  best: run_") and "Loss: 0.2340, Accuracy: 78.50%" in line
               for line in lines)  # fmt: skip
