"""Commands run within this process, as in the tests of the command line; and bounded memory."""

import contextlib
import resource
from pathlib import Path

import pytest

from tests.cli.conftest import ask

__all__ = ["ask", "memory_limit"]


@pytest.fixture(scope="session")
def memory_limit():
    """Returns what bounds the memory that is taken beyond what this process has."""

    @contextlib.contextmanager
    def limit(nbytes):
        before = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + nbytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    return limit
