"""Logging in as a person does: a real browser says the origins, and keeps the cookie."""

from pathlib import Path

import pytest

from tests.dashboard.asking import TOKEN, train
from tests.dashboard.running import PATIENCE_S, dashboard

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium here"),
]


@pytest.fixture(scope="module")
def browser():
    driving = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with driving.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield browser
        browser.close()


def test_a_person_logs_in_acts_and_logs_out(browser, tmp_path):
    train(tmp_path / "store", "r", 2)
    act = "fetch('/api/v1/prune/plan', {method: 'POST'}).then(answer => answer.status)"
    with dashboard(tmp_path / "store", "--host", "0.0.0.0", "--token-value", TOKEN) as server:
        # The page at hand lets no script ask anything; those of the dashboard may.
        page = browser.new_context(bypass_csp=True).new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        address = f"http://127.0.0.1:{server.port}"
        page.goto(f"{address}/api/v1/runs")
        assert page.url == f"{address}/login?next=/api/v1/runs"
        page.get_by_label("Token").fill("this-is-not-the-one")
        page.get_by_role("button", name="Log in").click()
        assert "not the token" in page.get_by_role("alert").inner_text()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{address}/api/v1/runs")
        assert '"total":1' in page.inner_text("body")
        assert page.evaluate(act) == 200
        # No script sees the cookie, and it is not the token.
        assert page.evaluate("document.cookie") == ""
        cookie = page.context.cookies()[0]
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert TOKEN not in cookie["value"]
        # A page of another server gets nothing done with it, not even by a form.
        other = page.context.new_page()
        other.goto("data:text/html,<form id=f method=post></form>")
        with other.expect_navigation() as gone:
            other.evaluate(f"f.action = '{address}/api/v1/prune/plan'; f.submit()")
        assert gone.value.status == 403
        assert page.evaluate("fetch('/logout', {method: 'POST'}).then(a => a.status)") == 200
        assert page.evaluate(act) == 401
