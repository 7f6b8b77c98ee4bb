"""Copying live arrays into host memory, prepared once and repeated as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from holdfast import frameworks
from holdfast.errors import ConfigError
from holdfast.frameworks import Leaf, Prepare, Transfer
from holdfast.tree import arrays


@dataclass(frozen=True, slots=True)
class Transfers:
    """Copies on their way; those of the host's own memory are complete already."""

    parts: tuple[Transfer, ...] = ()

    def fence(self) -> None:
        """Orders what their devices do from now on behind the copies."""
        for part in self.parts:
            part.fence()

    def wait(self) -> None:
        """Waits until the bytes are there; from any thread."""
        for part in self.parts:
            part.wait()


Copy = Callable[[Mapping[str, Leaf]], Transfers]


def prepare_copy(leaves: Mapping[str, Leaf], buffers: Mapping[str, memoryview]) -> Copy:
    """Returns a function that copies arrays like these into these buffers.

    Args:
        leaves: Array name to an array of the dtype, shape and framework to expect.
        buffers: Array name to writable bytes, `Leaf.nbytes` of them.

    Returns:
        A function of array name to live array. What is in the host's memory is copied when it
        returns; what comes from a device may still be on its way.

    Raises:
        ConfigError: A buffer is missing, read-only or of another size.
    """
    groups: dict[str, list[str]] = {}
    for name, leaf in leaves.items():
        buffer = buffers.get(name)
        if buffer is None or buffer.readonly or buffer.nbytes != leaf.nbytes:
            raise ConfigError(
                f"the array {name!r} needs a writable buffer of {leaf.nbytes} bytes",
                hint="pass one for each of leaves",
            )
        groups.setdefault(leaf.framework, []).append(name)
    steps = [
        (names, _prepare(framework)(_of(leaves, names), [buffers[n].cast("B") for n in names]))
        for framework, names in groups.items()
    ]

    def copy(live: Mapping[str, Leaf]) -> Transfers:
        started = (step(_of(live, names)) for names, step in steps)
        return Transfers(tuple(part for part in started if part is not None))

    return copy


def _of(leaves: Mapping[str, Leaf], names: Iterable[str]) -> list[Leaf]:
    return [leaves[name] for name in names]


def _prepare(framework: str) -> Prepare:
    if framework == "numpy":
        return arrays.prepare_copy
    adapter = frameworks.load(framework)
    if adapter is None:
        raise ConfigError(f"{framework} is not installed", hint=f"install {framework}")
    return adapter.prepare_copy
