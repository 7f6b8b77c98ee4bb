"""A catalog on each database: SQLite in a file, and a real PostgreSQL of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.catalog import Catalog
from tests.catalog.records import STORE

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Starts a PostgreSQL on a private socket, without a network port."""
    found = [path for path in BINARIES if (path / "initdb").exists()]
    if not found:
        pytest.skip("PostgreSQL's initdb is not under /usr/lib/postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # A socket's path has a limit of about 100 characters, which pytest's folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="hf-pg-", dir="/tmp"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    data = folder / "data"
    control = [*as_user, str(found[-1] / "pg_ctl"), "-D", str(data), "-w"]
    initdb = [str(found[-1] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N"]
    run_command([*as_user, *initdb], folder)
    settings = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run_command([*control, "-l", str(folder / "log"), "-o", settings, "start"], folder)
    yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    run_command([*control, "-m", "immediate", "stop"], folder)
    shutil.rmtree(folder)


def run_command(command: list[str], folder: Path) -> None:
    """Runs a command, and shows its output where it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a catalog may be kept, on each database."""
    if request.param == "sqlite":
        return str(tmp_path / "catalog.sqlite3")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store_id(tmp_path: Path) -> str:
    """An id of its own for each test: PostgreSQL is shared by all of them."""
    return f"{STORE} {tmp_path}"


@pytest.fixture
def catalog(place: str, store_id: str) -> Iterator[Catalog]:
    """An empty catalog on each database."""
    with Catalog.open(place, store_id=store_id) as opened:
        yield opened
