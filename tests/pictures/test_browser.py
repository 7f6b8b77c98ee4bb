"""A real browser opens a report: it asks for nothing, runs nothing, and nothing leaves the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.pictures import report

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.mark.parametrize("name", ["hostile", pytest.param("store", marks=pytest.mark.slow)])
def test_a_report_opens_offline_and_fits(browser, request, tmp_path, name):
    store = request.getfixturevalue(name)
    file = tmp_path / "report.html"
    file.write_text(report(store, store.runs()[-1].name, now=0.0), encoding="utf-8")
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked, said = [], []
        page.on("request", lambda made, asked=asked: asked.append(made.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        page.goto(file.as_uri())
        assert asked == [file.as_uri()]
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = [picture.is_visible() for picture in page.locator("figure").all()]
        assert shown == [width == 1280, width == 390]
        page.close()


@pytest.mark.slow
def test_light_and_dark_are_the_readers_choice(browser, store, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(report(store, "study/vit", now=0.0), encoding="utf-8")
    papers = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        papers[scheme] = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        page.emulate_media(media="print")
        printed = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert printed == "rgb(255, 255, 255)"
        page.close()
    assert papers == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}
