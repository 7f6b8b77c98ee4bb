"""examples/dqn_gridworld.py: the agent learns, and goes on after a stop as if there was none."""

import re

import pytest

import holdfast
from tests.examples.running import run_example

RUN = "dqn-gridworld"
NEVER = ("--enough", 9, "--save-every", 30)


def rewards(folder) -> list[tuple[int, str]]:
    """Returns each episode's reward, to the last bit."""
    with holdfast.open(folder, mode="r") as store:
        return [(step, value.hex()) for step, value in store[RUN].history("episode_reward")]


@pytest.mark.slow
def test_an_agent_that_was_stopped_goes_on_as_if_it_was_not(tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder, episodes in ((whole, 140), (halves, 105), (halves, 140)):
        done = run_example(
            "dqn_gridworld.py", "--folder", folder, "--episodes", episodes, *NEVER, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    assert "Going on with episode 105" in done.stdout
    assert rewards(halves) == rewards(whole)
    assert len(rewards(whole)) == 140


@pytest.mark.slow
def test_the_agent_learns_and_stops_when_it_is_good_enough(tmp_path):
    done = run_example("dqn_gridworld.py", "--folder", tmp_path / "dqn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"mean reward ([+-][\d.]+), epsilon", done.stdout)
    means = [float(value) for value in shown]
    assert means[0] < 0
    assert means[-1] > 0.5
    assert "enough" in done.stdout
    with holdfast.open(tmp_path / "dqn", mode="r") as store:
        best = store.best("reward", run=RUN)
        assert best.metrics["reward"] > 0.88
        assert best.step < 2999
        assert len(store.checkpoints(RUN)) <= 6
