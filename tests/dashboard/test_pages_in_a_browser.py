"""Every page in a real browser: live, named, reachable, readable; what means harm is text."""

from __future__ import annotations

import numpy as np
import pytest

import holdfast
from holdfast import keep, when
from tests.dashboard.browser import (
    CHROMIUM,
    FLAGS,
    TOKEN,
    Visit,
    served,
)
from tests.dashboard.shown import HOSTILE_METRIC, make_store

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no /usr/bin/chromium"),
]
playwright = pytest.importorskip("playwright.sync_api")

PAGES = {
    "overview": "/ui/",
    "run": "/ui/run/digits/cnn?checkpoint=best",
    "hostile run": "/ui/run/study/hostile?checkpoint=latest",
    "compare": "/ui/compare?with=digits/cnn@best&with=digits/wide&with=study/hostile@latest",
    "storage": "/ui/storage",
    "lineage": "/ui/lineage",
}
#: What each page shows once it is drawn in full.
DRAWN = {
    "overview": "text=digits/wide",
    "run": ".ag-row [data-open]",
    "hostile run": ".ag-row [data-open]",
    "compare": "text=Measure how far they moved",
    "storage": "text=Mirrors",
    "lineage": "canvas",
}

#: Runs that have a metric of their own.
_MEASURED = ("cnn", "wide")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("shown") / "store"
    make_store(place)
    return place


@pytest.fixture(scope="module")
def url(store):
    with served(store, token=TOKEN, budget="1MB") as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


def log_in(visit):
    visit.page.goto(f"{visit.url}/login")
    visit.page.fill("#token", TOKEN)
    visit.page.click("button[type=submit]")
    visit.page.wait_for_selector("main h1")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_and_named_wherever_it_is_looked_at(browser, url, name):
    with Visit(browser, url) as visit:
        page = visit.go(PAGES[name])
        page.wait_for_selector(DRAWN[name])
        assert visit.audit("unnamed") == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_selector(f"body.body--{scheme}")
            assert visit.audit("faint") == []
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.audit("unnamed") == []
        assert page.locator("img[src=x], main script").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_tab_reaches_all_that_can_be_used_and_one_sees_where_one_is(browser, url, name):
    with Visit(browser, url) as visit:
        page = visit.go(PAGES[name])
        page.wait_for_selector(DRAWN[name])
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        wanted = {str(number) for number in range(visit.audit("usable"))}
        reached, unseen = set(), []
        for _ in range(4 * len(wanted) + 60):
            page.keyboard.press("Tab")
            found = visit.audit("focused")
            if found["number"] is not None:
                reached.add(found["number"])
                if not found["seen"]:
                    unseen.append(found["what"])
            if reached == wanted:
                break
        missed = [
            page.locator(f'[data-usable="{number}"]').evaluate("one => one.outerHTML.slice(0, 200)")
            for number in sorted(wanted - reached)
        ]
        assert missed == []
        assert unseen == []


def test_what_a_writer_commits_is_shown_without_asking_for_the_page_again(browser, tmp_path):
    with holdfast.open(tmp_path / "store") as store, served(tmp_path / "store") as url:
        run = store.run("live", metric="loss", save=when.every(steps=1), keep=keep.latest(3))
        with run, Visit(browser, url) as first, Visit(browser, url) as second:
            run.attach(model={"w": np.zeros(8)})
            run.step(0, loss=2.0)
            run.wait()
            overview, closer = first.go("/ui/"), second.go("/ui/run/live")
            overview.wait_for_selector("text=running")
            closer.wait_for_selector("canvas")
            for step in range(1, 8):
                run.step(step, loss=2.0 / (step + 1))
            run.wait()
            overview.wait_for_selector("dd:text-is('0.2500')")
            closer.wait_for_selector("dl dd:text-is('7')")
            closer.wait_for_function(
                "getElement(Number(document.querySelector('.nicegui-echart').id.slice(1)))"
                ".chart.getOption().series[0].data.length === 8"
            )
            closer.wait_for_selector("button:text-is('7')")
            # What is cleaned up after a save goes from the table, too.
            closer.wait_for_function("document.querySelectorAll('.ag-row').length === 3")
            shown = closer.locator(".ag-row [data-open]").all_inner_texts()
            assert sorted(shown) == ["5", "6", "7"]


def test_a_store_that_is_missing_or_broken_says_so_and_is_shown_when_it_is_there(browser, tmp_path):
    place = tmp_path / "store"
    with served(place) as url, Visit(browser, url) as visit:
        page = visit.go("/ui/")
        page.wait_for_selector("[role=alert]:has-text('there is no store')")
        with holdfast.open(place):
            pass
        page.wait_for_selector("text=Three lines begin one")
        page.click("text=Copy")
        assert "holdfast.open" in page.evaluate("navigator.clipboard.readText()")
        with holdfast.open(place) as store, store.run("first", save=when.never()) as run:
            run.step(0, loss=1.0)
        page.wait_for_selector("a:text-is('first')")
        file = place / "holdfast.json"
        whole = file.read_bytes()
        file.chmod(0o644)
        file.unlink()
        page.wait_for_selector("[role=alert]:has-text('there is no store')")
        file.write_bytes(whole)
        page.wait_for_selector("[role=alert]", state="detached")


def test_why_answers_in_sentences_and_the_log_is_filtered(browser, url):
    with Visit(browser, url) as visit:
        page = visit.go("/ui/run/digits/cnn")
        page.get_by_label("A step, an id, best, latest or tag:name").fill("0")
        page.keyboard.press("Enter")
        page.wait_for_selector(".hf-answer >> text=was deleted: not among the best 3 by val_loss")
        page.get_by_label("A step, an id, best, latest or tag:name").fill("9999")
        page.get_by_role("button", name="Explain").click()
        page.wait_for_selector(".hf-answer >> text=nothing is known of step '9999'")
        page.get_by_label("Containing").fill("step 4 ")
        page.wait_for_function("document.querySelectorAll('.hf-log li').length < 8")
        said = page.locator(".hf-log li").all_inner_texts()
        assert said
        assert all("step 4 " in line for line in said)


def test_a_stretch_is_shown_in_detail_and_the_whole_run_again(browser, url):
    data = (
        "getElement(Number(document.querySelector('.nicegui-echart').id.slice(1)))"
        ".chart.getOption().dataZoom[0]"
    )
    with Visit(browser, url) as visit:
        page = visit.go("/ui/run/digits/cnn")
        page.wait_for_selector("canvas")
        page.get_by_label("From step").first.fill("40")
        page.wait_for_function(f"Math.round({data}.startValue) === 40")
        page.get_by_label("To step").first.fill("60")
        page.wait_for_function(f"Math.round({data}.endValue) === 60")
        page.get_by_role("button", name="Whole run").first.click()
        page.wait_for_function(f"{data}.start === 0 && {data}.end === 100")
        assert page.get_by_label("From step").first.input_value() == ""


def test_another_metric_is_shown_when_it_is_chosen_whatever_it_is_called(browser, url):
    with Visit(browser, url) as visit:
        page = visit.go("/ui/run/study/hostile")
        page.wait_for_selector("canvas")
        page.get_by_label("Metrics that are shown").click()
        page.locator(".q-menu .q-item", has_text=HOSTILE_METRIC).click()
        page.wait_for_function(
            "document.querySelectorAll('section[aria-label=Metrics] .nicegui-echart').length === 1"
        )
        page.keyboard.press("Escape")
        box = page.locator("section[aria-label=Metrics] .nicegui-echart").bounding_box()
        # A tooltip, drawn on the canvas.
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.evaluate("new Promise(requestAnimationFrame)")
        assert page.locator(".nicegui-echart img").count() == 0


def test_the_table_is_sorted_and_filtered_by_the_server(browser, url):
    first = "document.querySelector('.ag-row[row-index=\"0\"] [data-open]')?.textContent"
    with Visit(browser, url) as visit:
        page = visit.go("/ui/run/digits/wide")
        page.wait_for_function(f"{first} === '33'")
        page.click(".ag-header-cell[col-id=step]")
        page.wait_for_function(f"{first} === '4'")
        page.get_by_label("Filter, such as").fill("accuracy > 0.88")
        page.wait_for_function("document.querySelectorAll('.ag-row [data-open]').length === 3")
        shown = page.locator(".ag-row [col-id=metric-0]").all_inner_texts()
        assert sorted(shown) == ["0.8900", "0.8900", "0.9300"]


def test_a_row_gives_a_line_that_loads_and_opens_its_checkpoint(browser, url, store):
    with Visit(browser, url) as visit:
        page = visit.go("/ui/run/digits/cnn")
        page.click(".ag-row[row-index='0'] [data-copy]")
        line = page.evaluate("navigator.clipboard.readText()")
        with holdfast.open(store, mode="r") as opened:
            newest = opened.latest("digits/cnn").id
        assert line == (f'holdfast.open("{store}", mode="r").get("{newest}").restore(model=model)')
        page.click(".ag-row[row-index='0'] [data-open]")
        page.wait_for_selector(f"#checkpoint h2:text-is('{newest}')")
        page.wait_for_selector("#checkpoint >> text=A clean-up now would keep it")
        assert page.locator("#checkpoint button:text-matches('^(Pin|Unpin)$')").count() == 0


def test_a_pin_and_a_tag_are_set_by_who_has_the_token_and_by_nobody_else(browser, url, store):
    def latest():
        with holdfast.open(store, mode="r") as opened:
            return opened.latest("digits/wide")

    with Visit(browser, url) as visit:
        log_in(visit)
        page = visit.go("/ui/run/digits/wide?checkpoint=latest")
        page.click("#checkpoint button:text-is('Pin')")
        page.wait_for_selector("#checkpoint button:text-is('Unpin')")
        assert latest().pinned
        page.get_by_label("A tag to add").fill("seen")
        page.keyboard.press("Enter")
        page.wait_for_selector("#checkpoint button:text-is('Take away seen')")
        assert latest().tags == ("seen",)
        page.click("#checkpoint button:text-is('Take away seen')")
        page.wait_for_selector("#checkpoint button:text-is('Take away seen')", state="detached")
        # Whoever is logged out meanwhile is refused by the API, whatever the page still shows.
        visit.context.clear_cookies()
        page.click("#checkpoint button:text-is('Unpin')")
        page.wait_for_selector(".q-notification")
        assert latest().pinned
        visit.problems[:] = [one for one in visit.problems if "401" not in one and "403" not in one]


def test_a_slider_tells_what_a_stricter_policy_would_free_and_deletes_nothing(browser, url, store):
    with holdfast.open(store, mode="r") as opened:
        plans = [opened.prune(f"digits/{one}", policy="best(1) | latest(2)") for one in _MEASURED]
        before = opened.count()
    with Visit(browser, url) as visit:
        page = visit.go("/ui/storage")
        page.get_by_role("slider", name="Keep the best").focus()
        page.keyboard.press("Home")
        page.wait_for_selector(
            f"text=It would delete {sum(len(plan.deleted) for plan in plans)} checkpoint"
        )
        page.wait_for_selector("text=It says nothing of study/hostile")
        page.wait_for_selector("pre:text-is(\"holdfast prune --policy 'best(1) | latest(2)'\")")
    with holdfast.open(store, mode="r") as opened:
        assert opened.count() == before


def test_tensors_are_measured_when_it_is_asked_for(browser, url):
    with Visit(browser, url) as visit:
        page = visit.go("/ui/compare?with=digits/wide@step:4&with=digits/wide@step:9")
        page.click("text=Measure how far they moved")
        page.wait_for_selector("td:text-is('model.weight')")
        # 32 x 32 elements that moved by 5 each.
        page.wait_for_selector("td:text-is('160')")
        row = page.locator("tr", has_text="model.weight").last.inner_text().split()
        assert row[-2:] == ["160", "5"]


def test_the_theme_is_remembered_in_the_browser(browser, url):
    with Visit(browser, url) as visit:
        page = visit.go("/ui/")
        switch = page.locator("[data-theme-switch]")
        switch.click()
        switch.click()
        page.wait_for_selector("body.body--dark")
        visit.go("/ui/lineage").wait_for_selector("body.body--dark")
        assert page.locator("[data-theme-switch]").inner_text() == "Theme: dark"
