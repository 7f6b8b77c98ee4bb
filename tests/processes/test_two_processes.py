"""One process trains and prunes while another one scores what it saved."""

import pytest

import holdfast
from tests.processes.jobs import hear, job, leave, tell

# A job that says nothing more is a failure, not a hang.
pytestmark = pytest.mark.timeout(90)

TRAINER = """
import time
ends = time.monotonic() + float(sys.argv[2])
store = holdfast.open(place)
policy = keep.best(3, "val_loss") | keep.latest(4) | keep.unscored("val_loss", hours=1)
with store.run("run", metric="val_loss", save=when.never(), keep=policy) as run:
    model = {"w": np.zeros(1000)}
    run.attach(model=model)
    say("open")
    step = 0
    while time.monotonic() < ends or step < 10:
        model["w"][:] = step
        run.save(step, {"loss": 1.0}).wait()
        assert run.latest().step == step, (run.latest(), step)
        store.prune("run").apply()
        step += 1
    say(step)
    hear()
"""

SCORER = """
scores = {}
bests = set()
say("open")
hear()
over = False
while not over:
    over = os.path.exists(sys.argv[2])
    # Opened anew each time: an opening brings the catalog up to date, under the trainer's hands.
    with holdfast.open(place) as store:
        for checkpoint in store.checkpoints("run"):
            if checkpoint.id in scores:
                continue
            try:
                fill = checkpoint.load("model")["w"][0]
                assert fill == checkpoint.step, (fill, checkpoint.step)
                checkpoint.report(val_loss=float(checkpoint.step * 7919 % 101))
            except holdfast.NotFoundError:
                continue
            scores[checkpoint.id] = float(checkpoint.step * 7919 % 101)
            bests.add(store.best("val_loss", run="run").id)
for checkpoint, score in scores.items():
    say(checkpoint, score)
say("bests", len(bests))
"""


def rehearse(tmp_path, seconds):
    place, sign = tmp_path / "store", tmp_path / "over"
    with job(TRAINER, place, seconds) as trainer:
        assert hear(trainer) == "open"
        with job(SCORER, place, sign) as scorer:
            assert hear(scorer) == "open"
            tell(scorer)
            steps = int(hear(trainer))
            sign.touch()
            scores = {}
            while not (line := hear(scorer)).startswith("bests"):
                checkpoint, score = line.split()
                scores[checkpoint] = float(score)
            code, complaints = leave(scorer)
            assert code == 0, complaints
        tell(trainer)
        code, complaints_too = leave(trainer)
        assert code == 0, complaints_too
    for text in (complaints, complaints_too):
        assert "lags behind" not in text
        assert "Locked" not in text
    return place, steps, scores, int(line.split()[1])


def check_scores(place, scores):
    with holdfast.open(place) as store:
        left = {c.id: c.metrics.get("val_loss") for c in store.checkpoints("run")}
        known = {one: value for one, value in left.items() if one in scores}
        assert known == {one: scores[one] for one in known}
        best = min(scores.values())
        assert store.best("val_loss", run="run").metrics["val_loss"] == best
        store.reindex()
        again = {c.id: c.metrics.get("val_loss") for c in store.checkpoints("run")}
        assert again == left
        assert not store.verify().damaged


def test_scores_from_another_process_move_the_best_and_none_is_lost(tmp_path):
    place, steps, scores, bests = rehearse(tmp_path, 1.0)
    assert steps >= 10
    assert len(scores) >= 5
    assert bests >= 2
    check_scores(place, scores)


@pytest.mark.slow
def test_scores_from_another_process_for_longer(tmp_path):
    place, _, scores, bests = rehearse(tmp_path, 8.0)
    assert bests >= 2
    check_scores(place, scores)
