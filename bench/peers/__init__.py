"""Other tools, each in the fastest plain configuration that its documentation names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from bench.measure import SkippedError

Tensors = Mapping[str, torch.Tensor]


class Saver(Protocol):
    """How a tool saves a state into a folder that does not exist yet.

    Attributes:
        background: Whether `start` returns before everything is written.
        copies: States that it holds in memory besides the live one.
        note: What a reader must know of it.
    """

    background: bool
    copies: float
    note: str

    def start(self, tensors: Tensors, folder: Path) -> None:
        """Returns when training may go on."""

    def finish(self) -> None:
        """Returns when the tool says that all is written."""

    def load(self, folder: Path, like: Tensors) -> Tensors:
        """Returns what was saved."""

    def close(self) -> None:
        """Gives everything back."""


class Restorer(Protocol):
    """How a tool gets a state back into live tensors."""

    copies: float
    note: str

    def prepare(self, tensors: Tensors, folder: Path) -> None:
        """Saves what is going to be restored."""

    def restore(self, folder: Path, live: Mapping[str, torch.Tensor]) -> None:
        """Fills live tensors."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool.

    Attributes:
        name: What the tables call it.
        needs: The module that must be there, or None.
        make: Makes its `Saver` or `Restorer`.
    """

    name: str
    needs: str
    make: Callable[[], Saver | Restorer]


def require(module: str) -> None:
    """Raises `SkippedError` where a tool is not installed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise SkippedError(f"not installed: {module} (`make bench` installs it)") from error


def missing(modules: Mapping[str, str]) -> list[str]:
    """Returns which of some tools (name to module) are not installed."""
    absent = []
    for name, module in modules.items():
        try:
            require(module)
        except SkippedError:
            absent.append(name)
    return absent
