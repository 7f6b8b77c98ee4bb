"""`python -m bench.dashboard`: how fast the pages are drawn and follow, and what they cost.

A store of 10,000 checkpoints and 100,000 reports in one run is made as a rebuild makes it, and
served by a process of its own; a real browser looks at it, and another process trains in it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import holdfast
from bench.catalog_store import make_real_run
from holdfast import keep, when
from holdfast.engine import names
from holdfast.engine.journal import encode_line
from tests.dashboard.browser import CHROMIUM, FLAGS, serving

_RUN = "large"
_TABS = 10
_EPOCH = 1_700_000_000.0
_BATCH = 1000
#: Seconds in which the cost of open pages is measured.
_WINDOW_S = 10.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        place = Path(folder) / "store"
        make_store(place, checkpoints=arguments.checkpoints, reports=arguments.reports)
        found = dict(measured(place, repeats=arguments.repeats))
    console = Console()
    for name, value in found.items():
        console.print(f"{name}: {value:.3g}", markup=False, highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def make_store(place: Path, *, checkpoints: int, reports: int) -> None:
    """Makes a store of one large run, file by file and unsynced, and of a small one.

    The large one goes without arrays; opening the store puts it into the catalog.
    """
    with holdfast.open(place) as store:
        make_real_run(store._place, _RUN, checkpoints)
        journal = Path(store._place.storage.absolute(names.folder_of_run(_RUN))) / names.JOURNAL
        with journal.open("ab") as file:
            for begin in range(0, reports, _BATCH):
                rows = [_row(step, reports) for step in range(begin, begin + _BATCH)]
                file.write(encode_line({"t": "steps", "at": rows[-1][1], "rows": rows}))
            file.write(
                encode_line({"t": "status", "at": _EPOCH, "status": "finished", "final": True})
            )
        with store.run("live", metric="loss", save=when.never()) as run:
            run.step(0, loss=1.0)
    # Read into the catalog now, and not by the first page.
    holdfast.open(place).close()


def _row(step: int, reports: int) -> list[Any]:
    loss = math.exp(-step / reports) + math.sin(step) / 10
    metrics = {"val_loss": loss, "loss": loss / 2, "accuracy": step / reports}
    return [step, _EPOCH + step / 10, None, metrics, False, ""]


def measured(place: Path, *, repeats: int) -> Iterator[tuple[str, float]]:
    """Yields what was measured, by name, with its unit in it."""
    from playwright.sync_api import sync_playwright

    with serving(place) as server, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        yield "memory of the server before the first page (MB)", _memory(server.pid) / 1e6
        for name, path, drawn in (
            ("overview", "/ui/", "text=large"),
            ("run", f"/ui/run/{_RUN}", "canvas"),
            ("storage", "/ui/storage", "text=By item"),
            ("lineage", "/ui/lineage", "canvas"),
        ):
            times = [
                _timed(lambda path=path, drawn=drawn: _draw(page, server.url + path, drawn))
                for _ in range(repeats + 1)
            ]
            yield f"{name}, first (s)", times[0]
            yield f"{name}, median of {repeats} (s)", statistics.median(times[1:])
        yield "commit to first frame, median (ms)", 1000 * _follow(page, server.url, place)
        page.close()
        before = _memory(server.pid)
        tabs = [browser.new_page() for _ in range(_TABS)]
        for number, tab in enumerate(tabs):
            path = "/ui/" if number % 2 else f"/ui/run/{_RUN}"
            _draw(tab, server.url + path, "text=large")
        yield f"memory of {_TABS} pages (MB)", (_memory(server.pid) - before) / 1e6
        yield "memory of the server (MB)", _memory(server.pid) / 1e6
        yield f"{_TABS} pages, nothing new (share of a core)", _share(server.pid)
        yield f"{_TABS} pages, a report a second (share of a core)", _share(server.pid, place)
        browser.close()


def _draw(page: Any, url: str, drawn: str) -> None:
    page.goto(url)
    page.wait_for_selector(drawn)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _follow(page: Any, url: str, place: Path, *, times: int = 20) -> float:
    """Returns the median time from a commit to the frame that shows it, in seconds."""
    _draw(page, f"{url}/ui/run/live", "canvas")
    page.wait_for_function("window.did_handshake === true")
    found = []
    with holdfast.open(place) as store, store.run("live", metric="loss", save=when.never()) as run:
        run.attach(model={"w": np.zeros(4)})
        begin = run.resume()
        for step in range(begin + 1, begin + 1 + times):
            page.evaluate(
                """(text) => { window.seen = new Promise((done) => {
                  const look = () => [...document.querySelectorAll('dd')].some(
                    (one) => one.textContent === text) ? done(Date.now() / 1000)
                    : requestAnimationFrame(look);
                  look(); }); }""",
                f"{step:,}",
            )
            # Pushes to a page come no closer together than 0.25 s: an eager one is measured.
            time.sleep(0.4)
            run.step(step, loss=1.0 / (step + 1))
            run.wait()
            committed = time.time()
            found.append(page.evaluate("window.seen") - committed)
    return statistics.median(found)


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _share(pid: int, place: Path | None = None) -> float:
    """Returns the share of a core that a process takes, with or without a writer."""
    began, used = time.perf_counter(), _cpu_s(pid)
    if place is None:
        time.sleep(_WINDOW_S)
    else:
        with holdfast.open(place) as store:
            run = store.run("live", metric="loss", save=when.never(), keep=keep.all())
            with run:
                for step in range(int(_WINDOW_S)):
                    run.step(1000 + step, loss=1.0)
                    run.wait()
                    time.sleep(1)
    return (_cpu_s(pid) - used) / (time.perf_counter() - began)


def _cpu_s(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / 100


if __name__ == "__main__":
    main()
