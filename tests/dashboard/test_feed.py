"""Pages share their answers, and each follows for as long as somebody looks at it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from holdfast.errors import NotFoundError

pytest.importorskip("nicegui")

from holdfast.dashboard.pages.feed import Feed


class Versions:
    """A site that changes when it is told to; what is asked of it runs in a thread, as always."""

    def __init__(self):
        self.version = 0

    async def ask(self, question):
        return await asyncio.to_thread(question)


def test_a_question_is_asked_once_for_each_version_however_many_pages_ask():
    asked = []

    def question():
        asked.append(threading.current_thread())
        return len(asked)

    async def look():
        site = Versions()
        feed = Feed(site)
        first = await asyncio.gather(*(feed.ask("a", question) for _ in range(10)))
        again = await feed.ask("a", question)
        site.version += 1
        return first, again, await feed.ask("a", question), await feed.ask("b", question)

    assert asyncio.run(look()) == ([1] * 10, 1, 2, 3)
    assert threading.main_thread() not in asked


def test_a_page_that_goes_away_takes_no_answer_from_the_others():
    release = threading.Event()

    def question():
        release.wait(30)
        return "answer"

    async def look():
        feed = Feed(Versions())
        gone = asyncio.create_task(feed.ask("a", question))
        stays = asyncio.create_task(feed.ask("a", question))
        await asyncio.sleep(0)
        gone.cancel()
        release.set()
        return await stays

    assert asyncio.run(look()) == "answer"


def test_what_fails_fails_for_all_who_asked():
    def question():
        raise NotFoundError("gone", hint="look elsewhere")

    async def look():
        feed = Feed(Versions())
        return await asyncio.gather(
            *(feed.ask("a", question) for _ in range(3)), return_exceptions=True
        )

    assert [type(error) for error in asyncio.run(look())] == [NotFoundError] * 3


def test_old_answers_are_forgotten():
    async def look():
        feed = Feed(Versions())
        for name in range(1000):
            await feed.ask(name, lambda: 0)
        return len(feed._answers)

    assert asyncio.run(look()) <= 64
