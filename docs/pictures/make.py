"""`python docs/pictures/make.py`: takes the pictures of the dashboard's pages anew, in Chromium."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import holdfast  # noqa: E402
from tests.dashboard.browser import CHROMIUM, FLAGS, Visit, served  # noqa: E402
from tests.dashboard.shown import branch, digits  # noqa: E402

MOST_NBYTES = 150_000
#: Name of a picture to its page, what is waited for, and how it is looked at.
PICTURES = {
    "dashboard-overview.png": ("/ui/", "a:text-is('digits/wide')", 1100, 480, False),
    "dashboard-run.png": ("/ui/run/digits/cnn", ".ag-row", 1100, 900, False),
    "dashboard-run-dark.png": ("/ui/run/digits/wide", ".ag-row", 390, 1000, True),
    "dashboard-compare.png": (
        "/ui/compare?with=digits/cnn@best&with=digits/wide@best", "text=Measure", 1100, 900, False,
    ),
    "dashboard-lineage.png": ("/ui/lineage", "canvas", 1100, 480, False),
}  # fmt: skip


def main() -> None:
    """Takes all of them."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        # As people write it, for the pages say where the store is.
        place = Path("models/checkpoints")
        place.parent.mkdir()
        with holdfast.open(place) as store:
            digits(store)
            branch(store)
        with served(place, budget="2MB") as url, sync_playwright() as running:
            browser = running.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            for name, (path, awaited, width, height, dark) in PICTURES.items():
                with Visit(browser, url, width=width, dark=dark) as visit:
                    page = visit.go(path)
                    page.set_viewport_size({"width": width, "height": height})
                    page.wait_for_selector(awaited)
                    # Charts draw when they have their size.
                    page.wait_for_load_state("networkidle")
                    keep(name, page.screenshot())
            browser.close()


def keep(name: str, picture: bytes) -> None:
    """Writes a picture in few colours; one that is too large is an error."""
    made = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(96).save(made, "PNG", optimize=True)
    if len(made.getvalue()) > MOST_NBYTES:
        raise SystemExit(f"{name} takes {len(made.getvalue())} bytes, more than {MOST_NBYTES}")
    (HERE / name).write_bytes(made.getvalue())


if __name__ == "__main__":
    main()
