"""What the API answers about a store, and how it refuses."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import holdfast
from holdfast.dashboard.problems import problem_of
from holdfast.errors import HoldfastError
from tests.dashboard.asking import BEARER, TOKEN, asking, copied, train

#: Far beyond what it takes; only a hang comes to it.
PATIENCE_S = 60
RUN, IN_PATH = "study/trial-7", "study+trial-7"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store that no test changes."""
    place = tmp_path_factory.mktemp("api") / "store"
    train(place)
    train(place, "plain", 3, metric=None)
    with holdfast.open(place) as store:
        store.prune(RUN, policy="best(2) | latest(1)").apply()
    return place


@pytest.fixture(scope="module")
def client(place):
    with asking(place, budget="1MB") as client:
        yield client


def get(client, path, status=200):
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_a_run_is_shown_as_the_overview_has_it(client, place):
    told = get(client, "runs")
    assert told["total"] == 2
    assert {run["name"] for run in told["items"]} == {RUN, "plain"}
    one = get(client, f"runs/{IN_PATH}")
    with holdfast.open(place, mode="r") as store:
        best = store.best("val_loss", run=RUN)
    assert (one["best"], one["best_value"]) == (best.id, best.metrics["val_loss"])
    assert one["config"] == {"lr": 3e-4, "n": "x"}
    assert (one["steps"], one["last_step"], one["checkpoints"]) == (12, 5, 2)
    # JSON has no NaN: it is text, as in the store's own files.
    assert "NaN" in one["spark"]


def test_a_checkpoint_is_shown_with_its_tensors_its_line_and_its_story(client, place):
    with holdfast.open(place, mode="r") as store:
        checkpoint = store.latest(RUN)
        told = get(client, f"checkpoints/{IN_PATH}@latest")
        assert told == get(client, f"checkpoints/{checkpoint.id}")
        assert told["config"] == {"lr": 3e-4, "n": "x"}
        assert told["metadata"] == {"batch": 5}
        items = {item["name"]: item for item in told["contents"]}
        assert set(items) == set(checkpoint.items)
        tensors = {tensor["name"]: tensor for tensor in items["model"]["tensors"]}
        assert {n: (t["dtype"], t["shape"], t["nbytes"]) for n, t in tensors.items()} == {
            "w": ("F32", [8], 32), "frozen": ("F64", [4], 32)
        }  # fmt: skip
        assert tensors["w"]["digest"] == checkpoint.tensors("model")[1].digest
        parent, *others = told["lineage"]["parents"]
        assert parent["id"] == checkpoint.parent
        assert (others, told["lineage"]["children"]) == ([], [])
        # The one that this line breaks off at was deleted.
        assert told["lineage"]["lost"] == store.get(parent["id"]).parent
        child = get(client, f"checkpoints/{parent['id']}")["lineage"]["children"]
        assert [one["id"] for one in child] == [checkpoint.id]
    assert told["explanation"]["decisions"][0]["fate"] == "saved"


def test_a_deleted_step_explains_itself(client):
    told = get(client, f"explain?of={RUN}@step:0")
    assert told["checkpoint"] is None
    assert told["decisions"][-1]["fate"] == "deleted"
    assert "best 2" in told["decisions"][-1]["reason"]


def test_series_are_thinned_cut_and_named(client):
    assert get(client, f"runs/{IN_PATH}/metrics") == {
        "items": ["eval/accuracy", "val_loss"],
        "metric": "val_loss",
    }
    whole = get(client, f"runs/{IN_PATH}/series")["items"]
    assert [one["metric"] for one in whole] == ["val_loss"]
    assert whole[0]["values"][2] == "NaN"
    assert len(whole[0]["steps"]) == len(whole[0]["at"]) == whole[0]["total"] == 12
    both = get(
        client, f"runs/{IN_PATH}/series?metric=eval/accuracy&metric=val_loss&points=4&from=2&to=4"
    )["items"]
    assert [(one["metric"], one["total"]) for one in both] == [
        ("eval/accuracy", 3),
        ("val_loss", 6),
    ]
    assert all(len(one["steps"]) <= 4 and set(one["steps"]) <= {2, 3, 4} for one in both)
    error = get(client, f"runs/{IN_PATH}/series?metric=val_los", 404)["error"]
    assert error["nearest"] == ["val_loss"]
    assert "no metric of its own" in get(client, "runs/plain/series", 422)["error"]["message"]


def test_decisions_come_in_pages_newest_first(client, place):
    with holdfast.open(place, mode="r") as store:
        whole = [(one.at, one.fate) for one in store[RUN].decisions()][::-1]
    found, before = [], ""
    while before is not None:
        told = get(client, f"runs/{IN_PATH}/decisions?limit=3{before and f'&before={before}'}")
        found += [(one["at"], one["fate"]) for one in told["items"]]
        assert told["total"] == len(whole)
        before = told["next"]
    assert found == whole
    # In a query + reads as a space; ids hold it all the same.
    deleted = get(client, f"runs/{IN_PATH}/decisions?fate=deleted")
    assert {one["fate"] for one in deleted["items"]} == {"deleted"}
    one = deleted["items"][0]
    by_step = get(client, f"runs/{IN_PATH}/decisions?fate=deleted&step={one['step']}")
    by_id = get(client, f"runs/{IN_PATH}/decisions?fate=deleted&checkpoint={one['checkpoint']}")
    assert by_step["items"] == by_id["items"] == [one]


def test_marks_tell_what_became_of_each_checkpoint(client):
    marks = get(client, f"runs/{IN_PATH}/marks")["items"]
    fates = {mark["step"]: mark["fate"] for mark in marks}
    assert fates == {0: "deleted", 1: "deleted", 2: "deleted", 3: "deleted", 4: "kept", 5: "kept"}
    assert [mark["step"] for mark in marks if mark["best"]] == [5]


def test_a_difference_has_norms_where_they_are_asked_for(client):
    a, b = f"{RUN}@step:4", f"{RUN}@step:5"
    told = get(client, f"diff?a={a}&b={b}")
    assert told["items"]["model"] == {
        "added": [],
        "removed": [],
        "changed": ["w"],
        "same": ["frozen"],
    }
    assert told["tensors"] == {}
    moved = get(client, f"diff?a={a}&b={b}&norms=true")["tensors"]["model"]["w"]
    assert moved["largest"] == 1.0
    assert moved["difference"] == pytest.approx(math.sqrt(8))


def test_many_who_read_tensors_hold_up_nobody_who_only_looks(place, monkeypatch):
    go, reading = threading.Event(), threading.Semaphore(0)
    diff = holdfast.Store.diff

    def slow(self, a, b, *, norms=False):
        reading.release()
        assert go.wait(PATIENCE_S)
        return diff(self, a, b, norms=norms)

    monkeypatch.setattr("holdfast.Store.diff", slow)
    path = f"/api/v1/diff?a={RUN}@step:4&b={RUN}@step:5&norms=true"
    with asking(place) as client, ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(client.get, path) for _ in range(40)]
        try:
            # Two are at it; the others wait for them, and not in a thread.
            for _ in range(2):
                assert reading.acquire(timeout=PATIENCE_S)
            assert get(client, "health")["standing"] == "ok"
        finally:
            go.set()
        assert {answer.result(PATIENCE_S).status_code for answer in answers} == {200}


def test_usage_and_health(client, place):
    with holdfast.open(place, mode="r") as store:
        assert get(client, "usage") | {"budget": None} == store.usage().as_dict() | {"budget": None}
    assert get(client, "usage")["budget"]["limit_nbytes"] == 1_000_000
    health = get(client, "health")
    assert (health["standing"], health["holdfast"]) == ("ok", holdfast.__version__)


def test_training_metrics_are_at_an_address_of_their_own(client, place):
    told = client.get(f"/api/training-metrics?run={RUN}&history=3").json()
    with holdfast.open(place, mode="r") as store:
        info = store[RUN].info
    assert (told["loss_metric"], told["accuracy_metric"]) == ("val_loss", "eval/accuracy")
    assert told["best_loss"] == told["current_loss"] == pytest.approx(1 / 6)
    assert told["best_accuracy"] == pytest.approx(1 - 1 / 7)
    assert (told["training_steps"], told["trend"], info.status) == (12, "improving", "finished")
    assert [row["step"] for row in told["history"]] == [4, 5, 5]
    # Nobody trains: the newest run is told of.
    assert client.get("/api/training-metrics").json()["run"] == "plain"
    assert client.get("/api/training-metrics?run=none").status_code == 404
    assert client.get("/api/training-metrics?history=1001").status_code == 422


def test_an_empty_store_has_no_training_yet(tmp_path):
    holdfast.open(tmp_path / "store").close()
    with asking(tmp_path / "store") as client:
        told = client.get("/api/training-metrics").json()
        assert (told["run"], told["trend"], told["training_steps"]) == (None, None, 0)
        assert get(client, "runs") == {"items": [], "total": 0}
        assert get(client, "checkpoints") == {"items": [], "next": None, "total": 0}


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api/v1/nothing", 404, "NotFound"),
        ("GET", "/api/nothing", 404, "NotFound"),
        ("GET", "/nothing", 404, "NotFound"),
        ("GET", "/docs", 404, "NotFound"),
        ("GET", "/api/docs", 404, "NotFound"),
        ("GET", "/api/redoc", 404, "NotFound"),
        ("GET", "/openapi.json", 404, "NotFound"),
        ("GET", "/api/v1/runs/study+trial-8", 404, "NotFoundError"),
        ("GET", "/api/v1/runs/study%2Ftrial-7", 404, "NotFound"),
        ("GET", "/api/v1/checkpoints/none", 422, "ConfigError"),
        ("GET", "/api/v1/checkpoints/none@best", 404, "NotFoundError"),
        ("GET", "/api/v1/checkpoints/plain_20200101_000000", 404, "NotFoundError"),
        ("GET", "/api/v1/checkpoints?run=none", 404, "NotFoundError"),
        ("GET", "/api/v1/diff?a=plain@latest", 422, "ValidationError"),
        ("GET", "/api/v1/diff?a=plain@latest&b=%00", 422, "ConfigError"),
        ("GET", "/api/v1/runs/plain/series?points=3", 422, "ValidationError"),
        ("GET", "/api/v1/runs/plain/decisions?fate=none", 422, "ValidationError"),
        ("GET", "/api/v1/runs/plain/decisions?step=99999999999999999999", 422, "ValidationError"),
        ("GET", "/api/v1/jobs/none", 404, "NotFoundError"),
        ("DELETE", "/api/v1/runs", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/checkpoints/none@best/pin", 404, "NotFoundError"),
        ("POST", "/api/v1/prune/apply", 422, "ValidationError"),
    ],
)
def test_every_error_has_one_shape(place, method, path, status, kind):
    with asking(place, token=TOKEN) as client:
        answer = client.request(method, path, headers=BEARER)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["kind"] == kind
    assert error["message"]
    assert set(error) - {"nearest"} == {"kind", "message", "hint"}
    assert ("allow" in answer.headers) is (status == 405)


STATUS = {
    "HoldfastError": 500, "ConfigError": 422, "NotFoundError": 404, "LockedError": 409,
    "IntegrityError": 500, "FormatError": 500, "StorageFullError": 507, "SaveError": 500,
    "TreeError": 422, "MetricError": 422,
}  # fmt: skip


@pytest.mark.parametrize("kind", [HoldfastError, *HoldfastError.__subclasses__()])
def test_every_error_of_holdfast_has_a_status(kind):
    if kind.__name__ not in STATUS:
        assert kind.__module__ != "holdfast.errors"
        return
    problem = problem_of(kind("what is wrong", hint="what to do"))
    assert (problem.status, problem.kind) == (STATUS[kind.__name__], kind.__name__)
    assert (problem.message, problem.hint) == ("what is wrong", "what to do")


def test_a_mistake_of_the_server_is_logged_and_not_told(client, monkeypatch, caplog):
    def fail(self):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("holdfast.insight.Overview.usage", fail)
    error = get(client, "usage", 500)["error"]
    assert error["kind"] == "InternalServerError"
    assert "secret" not in json.dumps(error)


@pytest.mark.parametrize(
    "path", ["runs", "runs/a", "checkpoints", "usage", "diff?a=a@best&b=b@best"]
)
def test_a_store_that_is_not_there_is_said_to_be_away(tmp_path, path):
    with asking(tmp_path / "none") as client:
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["kind"] == "StoreUnavailable"
        assert get(client, "health")["standing"] == "missing"
    assert not (tmp_path / "none").exists()


def test_a_store_that_is_damaged_is_said_to_be_unreadable(place, tmp_path):
    copy = copied(place, tmp_path / "store")
    (copy / "holdfast.json").chmod(0o644)
    (copy / "holdfast.json").write_bytes(b"{}")
    with asking(copy) as client:
        health = get(client, "health")
        assert (health["standing"], health["text"] != "") == ("unreadable", True)
        assert get(client, "usage", 503)["error"]["kind"] == "StoreUnavailable"


def test_a_damaged_file_is_an_error_of_integrity(place, tmp_path):
    copy = copied(place, tmp_path / "store")
    with holdfast.open(copy) as store:
        file = store.latest(RUN).path / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"x" * file.stat().st_size)
    with asking(copy) as client:
        assert (
            get(client, f"checkpoints/{IN_PATH}@latest", 500)["error"]["kind"] == "IntegrityError"
        )


def test_the_description_of_the_api_loads_nothing_from_elsewhere(client):
    described = get(client, "openapi.json")
    assert "/v1/runs" in described["paths"]
    assert "/training-metrics" in described["paths"]
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            assert said["summary"], (path, method)
            assert "4XX" in said["responses"], (path, method)
