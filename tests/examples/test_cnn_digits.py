"""examples/cnn_digits.py: one call after each batch."""

import pytest

import holdfast
from tests.examples.running import run_example


@pytest.mark.slow
def test_it_saves_what_is_better_and_goes_on_from_the_best(tmp_path):
    arguments = ("--folder", tmp_path / "models", "--preset", "aggressive", "--epochs", 1)
    first = run_example("cnn_digits.py", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Starting from nothing" in first.stdout
    assert "Checkpoint saved (improved): cnn_" in first.stderr
    with holdfast.open(tmp_path / "models", mode="r") as store:
        before = store.best("accuracy", run="cnn")
        kept = store.checkpoints("cnn")
        # The best five, and the one that was forced at the end, which is the newest.
        assert 5 <= len(kept) <= 6
        assert before.metrics["accuracy"] == max(c.metrics["accuracy"] for c in kept)
        assert before.metrics["accuracy"] > 0.5
        assert before.metadata["session"] == "session-1"
        assert before.metadata["model_type"] == "convolutional network"
        assert kept[0].reason == "forced"

    second = run_example("cnn_digits.py", *arguments, "--session", "session-2", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert f"Going on from {before.id}" in second.stdout
    with holdfast.open(tmp_path / "models", mode="r") as store:
        after = store.best("accuracy", run="cnn")
        assert after.metrics["accuracy"] > before.metrics["accuracy"]
        assert after.metadata["session"] == "session-2"
