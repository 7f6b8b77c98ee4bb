"""The server in a process of its own: what it tells as it happens, whom it knows, how it ends."""

import contextlib
import http.client
import json
import multiprocessing
import signal
import socket
import subprocess

import pytest

import holdfast
from holdfast import keep, when
from tests.dashboard.asking import TOKEN, train
from tests.dashboard.running import PATIENCE_S, command, dashboard, environment

pytestmark = pytest.mark.slow

#: Writes down whom a process connects to or asks the name of, but for its own loopback.
WATCH = """
import sys
def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        address = arguments
    else:
        return
    sys.stderr.write(f"OUTSIDE {event} {address}\\n")
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("server") / "store"
    train(place)
    return place


@pytest.fixture(scope="module")
def server(place):
    with dashboard(place, "--token-value", TOKEN, before=WATCH) as server:
        yield server


def save_in_a_process(place, go, done):
    """Saves a checkpoint each time that it is told to."""
    with (
        holdfast.open(place) as store,
        store.run("w", save=when.never(), keep=keep.all()) as run,
    ):
        for step in range(100):
            if not go.get():
                return
            done.put(run.save(step, {"loss": 1.0}, kind="metrics").wait().id)


@contextlib.contextmanager
def writer(place):
    """Yields a call that saves a checkpoint in another process, and returns its id."""
    spawning = multiprocessing.get_context("spawn")
    go, done = spawning.Queue(), spawning.Queue()
    process = spawning.Process(target=save_in_a_process, args=(place, go, done))
    process.start()

    def save():
        go.put(True)
        return done.get(timeout=PATIENCE_S)

    try:
        yield save
    finally:
        go.put(False)
        process.join(PATIENCE_S)


def test_each_commit_of_another_process_is_told_to_all_who_listen(tmp_path):
    train(tmp_path / "store", "r", 1)
    with dashboard(tmp_path / "store") as server, writer(tmp_path / "store") as save:
        save()
        first, second = server.stream(), server.stream()
        assert first.answer.headers["content-type"].startswith("text/event-stream")
        for stream in (first, second):
            name, _, data = stream.next()
            assert (name, data["standing"]) == ("state", "ok")
        for _ in range(3):
            known = save()
            ids = []
            for stream in (first, second):
                name, event_id, data = stream.next()
                assert (name, set(data)) == ("change", {"version"})
                ids.append(event_id)
            # Whoever was told finds it.
            while known not in {one["id"] for one in page(server)}:
                first.next()
        first.close()
        # Who comes back is told that something happened meanwhile, and only then.
        _, now, _ = (back := server.stream()).next()
        back.close()
        for last, told in ((ids[0], ids[0] != now), ("of-another-process-3", True), (now, False)):
            again = server.stream({"last-event-id": last})
            assert again.next()[0] == "state"
            if told:
                assert again.next()[0] == "change"
            again.close()


def page(server):
    return server.ask("GET", "/api/v1/checkpoints?limit=1000")[1]["items"]


def test_a_store_that_comes_and_goes_is_told_of(tmp_path):
    place = tmp_path / "store"
    with dashboard(place) as server:
        assert server.ask("GET", "/api/v1/runs")[0] == 503
        assert not place.exists()
        stream = server.stream()
        assert stream.next()[2]["standing"] == "missing"
        train(place, "r", 1)
        assert until_state(stream) == "ok"
        assert server.ask("GET", "/api/v1/runs")[0] == 200
        place.rename(tmp_path / "away")
        assert until_state(stream) == "missing"


def until_state(stream):
    while (event := stream.next())[0] != "state":
        pass
    return event[2]["standing"]


def test_streams_are_bounded_and_those_that_close_make_room(place):
    with dashboard(place) as server:
        streams = [server.stream() for _ in range(64)]
        for stream in streams:
            assert stream.next()[0] == "state"
        status, said = server.ask("GET", "/api/v1/events")
        assert (status, said["error"]["kind"]) == (503, "ServiceUnavailable")
        streams.pop().close()
        # It is noticed when something is written to it, or at once.
        while (stream := server.stream()).answer.status == 503:
            stream.close()
        assert stream.next()[0] == "state"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_with_streams_open(place, number):
    with dashboard(place) as server:
        second = subprocess.run(
            command(place, "--port", server.port), capture_output=True, text=True,
            env=environment(), timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert (second.returncode, second.stdout) == (4, "")
        assert f"a dashboard has port {server.port} already; it shows {place}" in second.stderr
        streams = [server.stream() for _ in range(3)]
        for stream in streams:
            assert stream.next()[0] == "state"
        code, errors = server.end(number)
        assert (code, errors) == (0, "")
        for stream in streams:
            while (event := stream.next()) is not None:
                assert event[0] == "state"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_twice_it_ends_at_once_and_without_a_word(place, number):
    with dashboard(place) as server:
        streams = [server.stream() for _ in range(2)]
        for stream in streams:
            assert stream.next()[0] == "state"
        server.process.send_signal(number)
        code, errors = server.end(number)
        # The second may come when all is over.
        assert code in (0, 128 + number)
        assert errors == ""


def test_it_connects_to_nobody(server, place):
    paths = [
        "/", "/login", "/api/v1/health", "/api/v1/runs", "/api/v1/usage", "/api/v1/openapi.json",
        "/api/v1/checkpoints/study+trial-7@best", "/api/v1/runs/study+trial-7/series",
        "/api/training-metrics", "/nothing",
    ]  # fmt: skip
    for path in paths:
        server.ask("GET", path)
    server.ask("POST", "/api/v1/prune/plan", {"authorization": f"Bearer {TOKEN}"})
    code, errors = server.end()
    assert code == 0
    # The place that it listens at is looked up once, and is no name.
    outside = [line for line in errors.splitlines() if "OUTSIDE" in line]
    assert [line for line in outside if "127.0.0.1" not in line or "connect" in line] == []
    assert len(outside) == 1
    assert TOKEN not in errors


def test_the_token_is_taken_from_the_environment_and_stands_in_no_log(place):
    with dashboard(place, "--verbose", HOLDFAST_DASHBOARD_TOKEN=TOKEN) as server:
        assert "token" not in server.said
        assert act(server, TOKEN) == 200
        assert act(server, TOKEN + "x") == 401
        _, errors = server.end()
        assert TOKEN not in errors


def test_a_token_is_made_and_beyond_this_machine_reading_needs_it_too(place):
    with dashboard(place, "--host", "0.0.0.0", "--token") as server:
        made = server.said["token"]
        assert (len(made) >= 43, server.said["read_only"]) == (True, False)
        assert act(server, made) == 200
        assert server.ask("GET", "/api/v1/runs")[0] == 401
        assert server.ask("GET", "/api/v1/runs", {"authorization": f"Bearer {made}"})[0] == 200
        assert made not in server.end()[1]


def act(server, token):
    return server.ask("POST", "/api/v1/prune/plan", {"authorization": f"Bearer {token}"})[0]


def test_without_the_extra_one_error_says_what_to_install(place):
    for name in ("fastapi", "uvicorn"):
        block = f"import sys\nsys.modules[{name!r}] = None"
        done = subprocess.run(
            command(place, before=block), capture_output=True, text=True, env=environment(),
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install 'holdfast[dashboard]'" in done.stderr
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_a_request_that_breaks_off_harms_nobody(place):
    with dashboard(place) as server:
        assert server.said["read_only"] is True
        assert act(server, TOKEN) == 403
        for text in (
            b"GET / HTTP/1.1\r\nHost:",
            b"\x16\x03\x01",
            b"GET /api/v1/events HTTP/1.1\r\n",
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as broken:
                broken.sendall(text)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        connection.request("GET", "/api/v1/health")
        assert json.loads(connection.getresponse().read())["standing"] == "ok"
        connection.close()
        assert server.end()[0] == 0
