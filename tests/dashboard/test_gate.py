"""Who may come in, and who may act: one table for requests, one for websockets."""

import contextlib

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from holdfast.dashboard.addresses import Addresses
from holdfast.dashboard.gate import Gate
from tests.dashboard.asking import BEARER, HERE, PORT, TOKEN, Clock, asking

ACT, READ, PAGE = ("POST", "/api/v1/act"), ("GET", "/api/v1/read"), ("POST", "/ui/_nicegui/x")
OURS, EVIL = {"origin": HERE}, {"origin": "http://evil.example"}
WRONG = {"authorization": "Bearer not-the-token-at-all"}


def loaded(site, mode):
    """Returns what a browser says of where it uses an answer."""
    return {"sec-fetch-site": site, "sec-fetch-mode": mode}


@contextlib.contextmanager
def behind(gate):
    """Yields a client of an application that says who may act, behind a gate."""

    async def tell(request):
        return JSONResponse({"may_act": gate.may_act(request)}, headers={"x-frame-options": "no"})

    async def talk(socket):
        await socket.accept()
        await socket.send_json({"may_act": gate.may_act(socket)})
        await socket.close()

    methods = ["GET", "POST", "DELETE", "PUT", "PATCH"]
    inner = Starlette(
        routes=[WebSocketRoute("/{path:path}", talk), Route("/{path:path}", tell, methods=methods)]
    )
    with TestClient(gate.guard(inner), base_url=HERE, follow_redirects=False) as client:
        yield client


def gate_of(who, clock=None):
    """Returns a gate: loopback or beyond, with or without a token."""
    host = "0.0.0.0" if who == "beyond" else "127.0.0.1"
    token = None if who == "read-only" else TOKEN
    named = Addresses.of(host, PORT)
    return Gate(named, token=token, clock=clock or Clock())


def cookie_of(gate):
    """Returns the header of somebody who has logged in."""
    return {"cookie": gate.log_in(TOKEN, client="c", secure=False).partition(";")[0]}


@pytest.mark.parametrize(
    ("who", "request_", "headers", "with_cookie", "status"),
    [
        # Without a token everything is read-only, whatever a caller says.
        ("read-only", READ, {}, False, 200),
        ("read-only", ACT, {}, False, 403),
        ("read-only", ACT, BEARER, False, 403),
        ("read-only", ACT, BEARER | OURS, False, 403),
        ("read-only", ("DELETE", "/api/v1/x"), BEARER, False, 403),
        ("read-only", ("PUT", "/login/x"), {}, False, 403),
        # The pages' own messages come in; what acts in them is asked about there.
        ("read-only", PAGE, {}, False, 200),
        ("read-only", READ, {"host": f"evil.example:{PORT}"}, False, 403),
        ("read-only", READ, EVIL, False, 403),
        ("read-only", READ, {"origin": "null"}, False, 403),
        ("read-only", PAGE, EVIL, False, 403),
        (
            "read-only",
            READ,
            loaded("cross-site", "no-cors"),
            False,
            403,
        ),
        ("read-only", READ, loaded("same-site", "cors"), False, 403),
        (
            "read-only",
            READ,
            loaded("cross-site", "navigate"),
            False,
            200,
        ),
        (
            "read-only",
            READ,
            loaded("same-origin", "cors"),
            False,
            200,
        ),
        # With one, actions need it.
        ("token", READ, {}, False, 200),
        ("token", ACT, {}, False, 401),
        ("token", ACT, BEARER, False, 200),
        ("token", ACT, {"authorization": f"bearer {TOKEN}"}, False, 200),
        ("token", ACT, WRONG, False, 401),
        ("token", READ, WRONG, False, 401),
        ("token", ACT, {"authorization": f"Basic {TOKEN}"}, False, 401),
        ("token", ("POST", f"/api/v1/act?token={TOKEN}"), {}, False, 401),
        ("token", ACT, BEARER | EVIL, False, 403),
        ("token", ACT, OURS, True, 200),
        ("token", ACT, {}, True, 403),
        ("token", ACT, EVIL, True, 403),
        ("token", ACT, {"cookie": f"holdfast_{PORT}={TOKEN}"} | OURS, False, 401),
        ("token", ACT, {"cookie": "holdfast_1=x"} | OURS, False, 401),
        # Beyond this machine, reading does, too.
        ("beyond", READ, {}, False, 401),
        ("beyond", PAGE, {}, False, 401),
        ("beyond", ("GET", "/ui/"), {}, False, 401),
        ("beyond", READ, BEARER, False, 200),
        ("beyond", READ, {}, True, 200),
        ("beyond", ("GET", "/login"), {}, False, 200),
        ("beyond", ("GET", "/loginx"), {}, False, 401),
        ("beyond", ACT, BEARER, False, 200),
        ("beyond", ACT, {}, True, 403),
        ("beyond", ACT, OURS, True, 200),
        ("beyond", READ, BEARER | {"host": f"evil.example:{PORT}"}, False, 403),
    ],
)
def test_a_request_is_let_through_or_refused(who, request_, headers, with_cookie, status):
    gate = gate_of(who)
    cookie = cookie_of(gate) if with_cookie else {}
    with behind(gate) as client:
        answer = client.request(*request_, headers={**headers, **cookie})
    assert answer.status_code == status
    if status != 200:
        assert set(answer.json()["error"]) == {"kind", "message", "hint"}
    else:
        knows = TOKEN in headers.get("authorization", "") or with_cookie
        assert answer.json()["may_act"] is (knows and who != "read-only")
    # Whatever the answer, the browser is told what it may do with it; the application is not.
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert ("cache-control" in answer.headers) == request_[1].startswith(("/api", "/login"))
    assert TOKEN not in answer.text + str(answer.headers)


@pytest.mark.parametrize(
    ("who", "headers", "with_cookie", "admitted"),
    [
        ("read-only", {}, False, True),
        ("read-only", OURS, False, True),
        ("read-only", EVIL, False, False),
        ("read-only", {"host": f"evil.example:{PORT}"}, False, False),
        ("token", OURS, False, True),
        ("token", WRONG, False, False),
        ("beyond", OURS, False, False),
        ("beyond", BEARER, False, True),
        ("beyond", OURS, True, True),
        ("beyond", EVIL, True, False),
    ],
)
def test_a_websocket_is_accepted_or_closed_before(who, headers, with_cookie, admitted):
    gate = gate_of(who)
    cookie = cookie_of(gate) if with_cookie else {}
    with behind(gate) as client:
        connecting = client.websocket_connect(
            f"ws://127.0.0.1:{PORT}/ui/ws", headers={**headers, **cookie}
        )
        if admitted:
            with connecting as socket:
                knows = with_cookie or headers == BEARER
                assert socket.receive_json()["may_act"] is knows
        else:
            with pytest.raises(WebSocketDisconnect) as caught, connecting:
                pass
            assert caught.value.code == 1008


@pytest.mark.parametrize(
    ("hosts", "admitted"), [([HERE[7:]], True), ([], False), ([HERE[7:], HERE[7:]], False)]
)
def test_a_request_says_one_host(hosts, admitted):
    scope = {"type": "http", "method": "GET", "path": "/", "server": ("127.0.0.1", PORT)}
    headers = [(b"host", host.encode()) for host in hosts]
    assert (gate_of("read-only").refusal({**scope, "headers": headers}) is None) is admitted


def test_a_wrong_token_is_tried_five_times_and_then_not_even_the_right_one_helps():
    clock = Clock()
    with behind(gate_of("token", clock)) as client:
        for _ in range(5):
            assert client.post("/api/v1/act", headers=WRONG).status_code == 401
        for headers in (WRONG, BEARER):
            refused = client.post("/api/v1/act", headers=headers)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "12"
        clock.now += 12
        assert client.post("/api/v1/act", headers=BEARER).status_code == 200


def test_a_browser_without_a_session_is_led_to_where_it_can_log_in():
    with behind(gate_of("beyond")) as client:
        answer = client.get("/ui/runs/a b", headers={"accept": "text/html,*/*"})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/login?next=/ui/runs/a%20b"
        assert client.get("/", headers={"accept": "text/html"}).headers["location"] == "/login"


def test_logging_in_and_out(tmp_path):
    clock = Clock()
    with asking(tmp_path / "none", token=TOKEN, clock=clock) as client:
        assert "<form" in client.get("/login").text
        wrong = client.post("/login", data={"token": "<b>wrong</b>"}, headers=OURS)
        assert wrong.status_code == 401
        assert "<b>" not in wrong.text
        answer = client.post("/login?next=/ui/storage", data={"token": TOKEN}, headers=OURS)
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/storage")
        cookie = answer.headers["set-cookie"]
        name, _, rest = cookie.partition("=")
        session, *flags = rest.split("; ")
        assert name == f"holdfast_{PORT}"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
        assert "Secure" not in flags
        assert TOKEN not in cookie
        assert len(session) >= 43
        assert client.post("/api/v1/prune/plan", headers=OURS).status_code == 503
        assert client.get("/login").status_code == 303
        gone = client.post("/logout", headers=OURS)
        assert "Max-Age=0" in gone.headers["set-cookie"]
        # The cookie that somebody kept is worth nothing any more.
        kept = {"cookie": f"{name}={session}"}
        assert client.post("/api/v1/prune/plan", headers=OURS | kept).status_code == 401


def test_a_session_ends_by_itself(tmp_path):
    clock = Clock()
    with asking(tmp_path / "none", token=TOKEN, clock=clock) as client:
        client.post("/login", data={"token": TOKEN}, headers=OURS)
        assert client.post("/api/v1/prune/plan", headers=OURS).status_code == 503
        clock.now += 12 * 3600
        assert client.post("/api/v1/prune/plan", headers=OURS).status_code == 401


def test_a_cookie_is_secure_where_the_page_came_by_https(tmp_path):
    with asking(tmp_path / "none", token=TOKEN, allowed=("dash.example",)) as client:
        for scheme, secure in (("https", True), ("http", False)):
            # Behind a proxy the browser's origin tells what the connection does not.
            by_proxy = {"origin": f"{scheme}://dash.example", "host": "dash.example"}
            answer = client.post("/login", data={"token": TOKEN}, headers=by_proxy)
            assert answer.status_code == 303
            assert ("; Secure" in answer.headers["set-cookie"]) is secure
        # Who named it lets others in: reading needs the token, too.
        client.cookies.clear()
        assert client.get("/api/v1/health").status_code == 401


def test_log_ins_are_limited_and_a_page_that_leads_elsewhere_is_not_gone_to(tmp_path):
    clock = Clock()
    with asking(tmp_path / "none", token=TOKEN, clock=clock) as client:
        for where in ("//evil.example", "https://evil.example", "/\\evil.example", "x"):
            answer = client.post(
                "/login", params={"next": where}, data={"token": TOKEN}, headers=OURS
            )
            assert answer.headers["location"] == "/"
        for _ in range(5):
            assert client.post("/login", data={"token": "x"}, headers=OURS).status_code == 401
        refused = client.post("/login", data={"token": TOKEN}, headers=OURS)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "12"
        assert "set-cookie" not in refused.headers


def test_a_body_without_end_is_not_read(tmp_path):
    read = []

    def pieces():
        for number in range(1000):
            read.append(number)
            yield b"token=" + b"x" * 1024

    with asking(tmp_path / "none", token=TOKEN) as client:
        assert client.post("/login", content=pieces(), headers=OURS).status_code == 401
