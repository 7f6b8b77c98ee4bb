"""A store on show: what happens in it is seen, and it may come, go and be damaged meanwhile."""

from __future__ import annotations

import asyncio
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

import holdfast
from holdfast import FormatError, NotFoundError, keep, when
from holdfast.dashboard.site import Site

#: Far beyond what a change takes to be seen; only a hang comes to it.
PATIENCE_S = 30


def watching(site, during):
    """Runs what looks at a site that is followed."""

    async def follow():
        async with site.followed():
            return await asyncio.wait_for(during(site), PATIENCE_S)

    return asyncio.run(follow())


async def until(site, holds):
    """Waits until something holds of a site."""
    seen = -1
    while not holds():
        seen = await site.changed(seen) if seen >= 0 else site.version


def make(place, steps=2):
    with holdfast.open(place) as store, store.run("run", save=when.never(), keep=keep.all()) as run:
        run.attach(model={"w": np.zeros(4)})
        for step in range(steps):
            run.save(step, {"loss": 1.0 / (step + 1)}).wait()


def test_what_another_opening_commits_is_seen(tmp_path):
    make(tmp_path / "store")

    async def during(site):
        assert site.state.standing == "ok"
        seen = site.version
        with holdfast.open(tmp_path / "store") as store:
            store.latest("run").tag("prod")
        await site.changed(seen)
        assert site.store.latest("run").tags == ("prod",)
        return site.overview.summary()

    assert watching(Site(str(tmp_path / "store")), during).checkpoints == 2


def test_looking_makes_nothing_and_a_store_that_comes_is_shown(tmp_path):
    place = tmp_path / "store"

    async def during(site):
        assert site.state.standing == "missing"
        with pytest.raises(NotFoundError, match="no store at"):
            _ = site.store
        assert not place.exists()
        make(place)
        await until(site, lambda: site.state.standing == "ok")
        assert len(site.store.checkpoints()) == 2

    watching(Site(str(place)), during)


def test_a_store_that_vanishes_is_missed_and_found_again(tmp_path):
    make(tmp_path / "store")

    async def during(site):
        (tmp_path / "store").rename(tmp_path / "away")
        await until(site, lambda: site.state.standing == "missing")
        (tmp_path / "away").rename(tmp_path / "store")
        await until(site, lambda: site.state.standing == "ok")
        assert len(site.store.checkpoints()) == 2
        # Another store in its place is another store.
        shutil.rmtree(tmp_path / "store")
        make(tmp_path / "store", steps=3)
        await until(site, lambda: site.state.standing == "ok" and site.store.count() == 3)

    watching(Site(str(tmp_path / "store")), during)


def test_a_store_that_cannot_be_opened_says_why(tmp_path):
    make(tmp_path / "store")
    file = tmp_path / "store" / "holdfast.json"
    file.chmod(0o644)
    whole = file.read_bytes()
    file.write_bytes(b"{}")

    async def during(site):
        assert site.state.standing == "unreadable"
        assert "holdfast.json" in site.state.text
        with pytest.raises(FormatError, match=r"holdfast.json"):
            _ = site.overview
        file.write_bytes(whole)
        await until(site, lambda: site.state.standing == "ok")

    watching(Site(str(tmp_path / "store")), during)


def test_an_owner_that_is_killed_is_noticed_although_it_commits_nothing(tmp_path):
    script = """
import sys, holdfast
with holdfast.open(sys.argv[1]) as store, store.run("run") as run:
    run.step(0, loss=1.0)
    run.wait()
    print("running", flush=True)
    sys.stdin.read()
"""
    with holdfast.open(tmp_path / "store"):
        pass
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    site = Site(str(tmp_path / "store"))
    try:
        owner.stdout.readline()
        site._look()
        assert site.overview.summary().runs[0].info.status == "running"
        site._looked_at = -math.inf
        while site._look():
            # What it committed before.
            site._looked_at = -math.inf
        owner.kill()
        owner.wait()
        site._looked_at = -math.inf
        assert site._look()
        assert [alert.kind for alert in site.overview.summary().alerts] == ["interrupted"]
        site._looked_at = -math.inf
        assert not site._look()
    finally:
        owner.kill()
        owner.communicate()
        site._close()


def test_a_medium_that_fails_while_it_is_watched_is_shown_and_found_again(tmp_path, monkeypatch):
    make(tmp_path / "store")

    def fail(self):
        raise OSError(5, "Input/output error")

    async def during(site):
        with monkeypatch.context() as broken:
            broken.setattr("holdfast.dashboard.site._Opened.changed", fail)
            await until(site, lambda: site.state.standing == "unreadable")
            assert "Input/output error" in site.state.text
        await until(site, lambda: site.state.standing == "ok")

    watching(Site(str(tmp_path / "store")), during)


def test_following_that_ends_by_a_defect_is_no_secret(tmp_path, monkeypatch, caplog):
    make(tmp_path / "store")

    async def during(site):
        monkeypatch.setattr("holdfast.dashboard.site._Opened.changed", lambda self: 1 / 0)
        while "not followed any more" not in caplog.text:
            await asyncio.sleep(site._interval_s)

    with pytest.raises(ZeroDivisionError):
        watching(Site(str(tmp_path / "store")), during)
    assert "start again" in caplog.text
