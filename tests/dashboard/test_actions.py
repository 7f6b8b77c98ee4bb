"""Acting on a store: what is said of checkpoints, clean-ups that were shown, work behind."""

import threading

import pytest

import holdfast
from holdfast import LockedError, NotFoundError, SaveError
from holdfast.dashboard.jobs import Jobs
from tests.dashboard.asking import BEARER, TOKEN, asking, copied, train

RUN, IN_PATH = "study/trial-7", "study+trial-7"
#: Far beyond what it takes; only a hang comes to it.
PATIENCE_S = 30


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    place = tmp_path_factory.mktemp("actions") / "store"
    train(place)
    return place


@pytest.fixture
def place(original, tmp_path):
    return copied(original, tmp_path / "store")


@pytest.fixture
def client(place):
    with asking(place, token=TOKEN) as client:
        client.headers.update(BEARER)
        yield client


def post(client, path, body=None, status=200):
    answer = client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def ended(client, job):
    """Waits until a job is over, and returns it."""
    while job["state"] == "running":
        job = client.get(f"/api/v1/jobs/{job['id']}").json()
    return job


def test_pins_and_tags_are_durable_and_answered_with_the_checkpoint(client, place):
    where = f"checkpoints/{IN_PATH}@step:2"
    assert post(client, f"{where}/pin")["pinned"] is True
    assert post(client, f"{where}/tags", {"tags": ["prod", "a.b"]})["tags"] == ["a.b", "prod"]
    with holdfast.open(place, mode="r") as store:
        one = store.get(f"{RUN}@step:2")
        assert (one.pinned, one.tags) == (True, ("a.b", "prod"))
    assert post(client, f"{where}/unpin")["pinned"] is False
    for _ in range(2):
        answer = client.delete(f"/api/v1/{where}/tags/prod")
        assert (answer.status_code, answer.json()["tags"]) == (200, ["a.b"])


@pytest.mark.parametrize(
    "body", [{"tags": []}, {"tags": ["no spaces"]}, {"tags": [1]}, {"tag": ["x"]}, {}, [], None,
             {"tags": ["x"], "more": 1}, {"tags": ["x" * 401]}]
)  # fmt: skip
def test_tags_that_cannot_be_are_refused(client, body):
    post(client, f"checkpoints/{IN_PATH}@step:2/tags", body, 422)


def test_a_plan_deletes_nothing_and_is_carried_out_as_it_was_shown(client, place):
    shown = post(client, "prune/plan", {"run": RUN, "policy": "latest(2)"})
    assert [one["step"] for one in shown["deleted"]] == [0, 1, 2, 3]
    assert all(one["reasons"] for one in shown["deleted"] + shown["kept"])
    assert not shown["applied"]
    with holdfast.open(place, mode="r") as store:
        assert store.count(RUN) == 6
    done = post(client, "prune/apply", {"fingerprint": shown["fingerprint"]})
    assert done["applied"]
    assert done["deleted"] == shown["deleted"]
    with holdfast.open(place, mode="r") as store:
        assert [one.step for one in store.checkpoints(RUN)] == [5, 4]


def test_a_plan_that_would_do_anything_else_by_now_is_refused(client, place):
    shown = post(client, "prune/plan", {"run": RUN, "policy": "latest(2)"})
    train(place, RUN, 2, start=6)
    post(client, "prune/apply", {"fingerprint": shown["fingerprint"]}, 409)
    with holdfast.open(place, mode="r") as store:
        assert store.count(RUN) == 8
    # A pin that spares one makes another plan, too.
    shown = post(client, "prune/plan", {"run": RUN, "policy": "latest(2)"})
    post(client, f"checkpoints/{shown['deleted'][0]['id']}/pin")
    post(client, "prune/apply", {"fingerprint": shown["fingerprint"]}, 409)


def test_thinning_is_part_of_what_was_shown(client):
    one = post(client, "prune/plan", {"run": RUN, "policy": "all().items('model')"})
    other = post(client, "prune/plan", {"run": RUN, "policy": "all().items('rng')"})
    assert one["fingerprint"] != other["fingerprint"]
    assert {tuple(c["items"]) for c in one["thinned"]} == {("model",)}
    done = post(client, "prune/apply", {"fingerprint": one["fingerprint"]})
    assert done["thinned"] == one["thinned"]


def test_a_plan_that_was_not_shown_is_not_carried_out(client):
    post(client, "prune/apply", {"fingerprint": "0" * 32}, 404)
    for policy in ("none(", "__import__('os')", "best(0)", "latest(1); none()"):
        post(client, "prune/plan", {"run": RUN, "policy": policy}, 422)


def test_a_plan_without_a_body_is_of_all_runs_and_their_own_policies(client):
    assert len(client.post("/api/v1/prune/plan", headers=BEARER).json()["kept"]) == 6


def test_a_verification_runs_behind_and_tells_what_it_found(client, place):
    job = post(client, "verify", {"target": f"{RUN}@step:3"}, 202)
    assert (job["kind"], job["total_nbytes"] > 0) == ("verify", True)
    done = ended(client, job)
    assert (done["state"], done["result"]["ok"], len(done["result"]["checked"])) == (
        "done",
        True,
        1,
    )
    assert done["done_nbytes"] == done["total_nbytes"]
    with holdfast.open(place, mode="r") as store:
        file = store.get(f"{RUN}@step:5").path / "model-00001-of-00002.safetensors"
        if not file.exists():
            file = store.get(f"{RUN}@step:5").path / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    found = ended(client, post(client, "verify", None, 202))
    assert found["result"]["ok"] is False
    assert found["result"]["damaged"]
    assert [one["id"] for one in client.get("/api/v1/jobs").json()["items"]] == [
        found["id"],
        done["id"],
    ]
    post(client, "verify", {"target": "none"}, 404)
    post(client, "verify", {"since": "yesterday"}, 422)


def test_mirrors_are_those_that_the_store_has(client, place, tmp_path):
    failed = ended(client, post(client, "mirror", None, 202))
    assert (failed["state"], failed["error"]["kind"]) == ("failed", "ConfigError")
    with holdfast.open(place) as store:
        store.mirror(to=tmp_path / "mirror")
    train(place, "more", 2)
    done = ended(client, post(client, "mirror", {"run": "more"}, 202))
    assert (done["state"], done["result"]["ok"]) == ("done", True)
    assert len(done["result"]["mirrors"][0]["copied"]) == 2
    # Where to is not for a request to say.
    post(client, "mirror", {"to": str(tmp_path / "elsewhere")}, 422)
    assert not (tmp_path / "elsewhere").exists()


def test_one_of_a_kind_runs_at_a_time_and_failures_are_kept():
    jobs, go = Jobs(), threading.Event()

    def work(progress):
        progress(3)
        assert go.wait(PATIENCE_S)
        return {"found": 1}

    first = jobs.start("verify", work, total_nbytes=3)
    with pytest.raises(LockedError, match=first.id):
        jobs.start("verify", work)
    other = jobs.start("mirror", lambda progress: 1 / 0)
    while jobs.get(other.id).state == "running":
        pass
    problem = jobs.get(other.id).problem
    assert (jobs.get(other.id).state, problem.kind) == ("failed", "ZeroDivisionError")
    go.set()
    while jobs.get(first.id).state == "running":
        pass
    done = jobs.get(first.id)
    assert (done.state, done.done_nbytes, done.result) == ("done", 3, {"found": 1})
    assert done.ended_at >= done.started_at
    with pytest.raises(NotFoundError):
        jobs.get("none")
    assert [job.id for job in jobs.all()] == [other.id, first.id]


def test_work_that_is_under_way_is_told_to_end_with_the_server():
    import asyncio

    jobs, begun = Jobs(), threading.Event()

    def work(progress):
        begun.set()
        while True:
            progress(1)

    job = jobs.start("verify", work)
    assert begun.wait(PATIENCE_S)
    asyncio.run(jobs.end())
    ended = jobs.get(job.id)
    assert (ended.state, ended.problem.kind) == ("failed", SaveError.__name__)


def test_what_is_remembered_of_work_is_bounded():
    jobs = Jobs()
    for _ in range(105):
        job = jobs.start("verify", lambda progress: {})
        while jobs.get(job.id).state == "running":
            pass
    assert len(jobs.all()) <= 101
    assert jobs.all()[0].id == job.id
