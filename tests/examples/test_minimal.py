"""examples/minimal.py: killed anywhere, it goes on, and ends bit for bit as if it never was."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest

import holdfast
from tests.examples.running import EXAMPLES, ForkedExample, run_example

RUN = "sine"
STEPS = 300
KILLS = 14


def losses(folder: Path) -> dict[int, str]:
    """Returns each step's loss, to the last bit."""
    with holdfast.open(folder / "checkpoints", mode="r") as store:
        return {step: loss.hex() for step, loss in store[RUN].history("loss")}


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Returns the model of the final checkpoint."""
    with holdfast.open(folder / "checkpoints", mode="r") as store:
        state = store.latest(RUN).load("model")
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


def first_step(lines: list[str]) -> int:
    """Returns the step of the first line."""
    return int(lines[0].removeprefix("step ").partition(":")[0])


def assert_all_intact(folder: Path) -> list[int]:
    """Verifies every checkpoint, digest by digest; returns their steps, oldest first."""
    if not (folder / "checkpoints").exists():
        return []
    with holdfast.open(folder / "checkpoints") as store:
        if RUN not in store:
            return []
        found = store.checkpoints(RUN, order_by="created_at")
        for checkpoint in found:
            checkpoint.verify()
        return [checkpoint.step for checkpoint in found]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, lines = ForkedExample("minimal.py", cwd=folder).finish()
    assert code == 0
    assert len(lines) == STEPS
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_it_ends_bit_for_bit_as_if_it_never_was(seed, uninterrupted, tmp_path):
    draw = random.Random(seed)
    kills = 0
    newest = -1
    # The first kills fall into the making of the store; later ones into steps, saves and prunes.
    while kills < KILLS:
        example = ForkedExample("minimal.py", cwd=tmp_path)
        wanted = 0 if kills < 3 else draw.randint(1, 40)
        lines = example.read_lines(wanted)
        assert not lines or first_step(lines) == newest + 1
        if not example.kill(after_s=draw.uniform(0, 0.2 if wanted == 0 else 0.02)):
            break
        kills += 1
        steps = assert_all_intact(tmp_path)
        assert not steps or steps[-1] >= newest, "a durable checkpoint is gone"
        newest = steps[-1] if steps else newest
    code, lines = ForkedExample("minimal.py", cwd=tmp_path).finish()

    assert kills >= 12
    assert code == 0
    assert first_step(lines) == newest + 1
    assert losses(tmp_path) == losses(uninterrupted)
    assert len(losses(tmp_path)) == STEPS
    for name, array in weights(uninterrupted).items():
        np.testing.assert_array_equal(weights(tmp_path)[name], array)
    assert assert_all_intact(tmp_path)[-1] == STEPS - 1


@pytest.mark.slow
def test_started_by_hand_it_trains_and_keeps_the_best_and_the_newest(tmp_path):
    done = run_example("minimal.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [first_step([line]) for line in lines] == list(range(STEPS))
    with holdfast.open(tmp_path / "checkpoints", mode="r") as store:
        run = store[RUN]
        history = dict(run.history("loss"))
        assert run.status == "finished"
        assert run.latest().step == STEPS - 1
        assert history[STEPS - 1] < history[0] / 10
        assert 3 <= len(run.checkpoints()) <= 5
        verdicts = {"improved", "interval"}
        reasons = {checkpoint.reason.partition(":")[0] for checkpoint in run.checkpoints()}
        assert reasons <= verdicts | {"final"}


def test_the_loop_fits_on_one_screen():
    text = (EXAMPLES / "minimal.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    assert len(statements) <= 26
