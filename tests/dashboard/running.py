"""The real server in a process of its own, as `holdfast dashboard` starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

#: Far beyond what anything takes here; only a hang comes to it.
PATIENCE_S = 60
ROOT = Path(__file__).parents[2]


def command(*words, before=""):
    """Returns the command line of `holdfast dashboard`, with code that runs before it."""
    code = f"{before}\nimport sys\nfrom holdfast.cli import main\nsys.argv[0] = 'holdfast'\nmain()"
    return [sys.executable, "-c", code, "dashboard", *map(str, words)]


def environment(**more):
    """Returns the environment of such a process."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


class Dashboard:
    """A running server.

    Attributes:
        process: Its process.
        said: What it printed when it was ready.
    """

    def __init__(self, process, said):
        self.process = process
        self.said = said
        self.port = said["port"]

    def ask(self, method, path, headers=None, body=None):
        """Returns the status and the parsed answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get("content-type", "")
            return answer.status, json.loads(text) if "json" in kind else text.decode()
        finally:
            connection.close()

    def stream(self, headers=None):
        """Returns an open stream of events."""
        return Stream(self.port, headers or {})

    def end(self, number=signal.SIGTERM):
        """Asks it to end, and returns its exit code and what it wrote on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors


class Stream:
    """A stream of events, as a browser reads it."""

    def __init__(self, port, headers):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.request("GET", "/api/v1/events", headers=headers)
        self.answer = self._connection.getresponse()

    def next(self):
        """Returns the next event as ``(name, id, data)``; None where the stream ended."""
        event = {}
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                event[name] = value
            elif "event" in event:
                return event["event"], event["id"], json.loads(event["data"])
            else:
                event = {}
        return None

    def close(self):
        """Closes the connection, as a browser does that goes."""
        self.answer.close()
        self._connection.close()


@contextlib.contextmanager
def dashboard(place, *words, before="", **more):
    """Yields a server of a store at a free port."""
    line = command(place, "--port", 0, "--json", *words, before=before)
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more)
    )
    try:
        said = ""
        while not said.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        yield Dashboard(process, json.loads(said))
    finally:
        process.kill()
        process.communicate()
