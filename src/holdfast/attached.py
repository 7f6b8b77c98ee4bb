"""The objects of a training loop that its checkpoints are made of."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast import frameworks, rng, tree
from holdfast import items as item_state
from holdfast.engine import names
from holdfast.errors import ConfigError, TreeError
from holdfast.model import Kind
from holdfast.tree.flat import outline_all

#: The item that holds the states of the random number generators; it comes along by itself.
RNG = "rng"

Chosen = Iterable[str] | Mapping[str, str | Iterable[str]] | None


class Attached:
    """Named live objects."""

    def __init__(self) -> None:
        self._objects: dict[str, object] = {}
        self._captured: dict[str, item_state.Captured] = {}
        self._generators = tree.Flattener(path=RNG)
        self._choices: dict[str, _Choice] = {}

    def __bool__(self) -> bool:
        return bool(self._objects)

    @property
    def objects(self) -> Mapping[str, object]:
        """Item name to live object."""
        return self._objects

    def choose(self, items: Iterable[str] | None) -> Mapping[str, object]:
        """Returns the live objects of these names; of all, where none are given.

        Raises:
            ConfigError: One of them is not attached.
        """
        if items is None:
            return dict(self._objects)
        chosen = list(items)
        unknown = [name for name in chosen if name not in self._objects]
        if unknown:
            raise ConfigError(
                f"{', '.join(unknown)} cannot be restored: not attached",
                hint=f"attached: {', '.join(self._objects) or 'nothing'}",
            )
        return {name: self._objects[name] for name in chosen}

    def add(self, objects: Mapping[str, object]) -> int:
        """Takes objects in, after walking all of them; returns the bytes of all that is attached.

        Raises:
            ConfigError: A name is not allowed.
            TreeError: Something in them cannot be stored; all of it is listed with its path.
        """
        problems: list[str] = []
        captured: dict[str, item_state.Captured] = {}
        for name, live in objects.items():
            if names.check_item(name) == RNG:
                raise ConfigError(
                    "the item name 'rng' is taken: the random number generators have it",
                    hint="attach the object under another name",
                )
            captured[name] = item_state.Captured(live, path=name)
            try:
                captured[name].flat()
            except TreeError as error:
                problems.extend(error.problems or (error.message,))
        if problems:
            raise TreeError(
                "what was attached cannot be stored:\n  " + "\n  ".join(problems),
                hint="leave these out, or give their owner state_dict() and load_state_dict()",
                problems=tuple(problems),
            )
        self._objects.update(objects)
        self._captured.update(captured)
        return sum(flat.nbytes for flat in self.capture("full", None).values())

    def late(self) -> dict[str, Literal["all", "parameters"]]:
        """Returns which arrays change in optimizer steps alone, by the name of their item."""
        found: dict[str, Literal["all", "parameters"]] = {}
        for name, obj in self._objects.items():
            for framework in frameworks.present():
                which = framework.resting(obj)
                if which is not None:
                    found[name] = which
        return found

    def capture(self, kind: Kind, chosen: Chosen) -> dict[str, tree.Flat]:
        """Returns the flattened items of a checkpoint.

        Args:
            kind: `full` takes everything and the random number generators, `weights` the items
                that have trainable parameters (or the one called `model`), `partial` what is
                chosen, `metrics` nothing.
            chosen: Item names, or item name to glob patterns of its arrays; only for `partial`.

        Raises:
            ConfigError: Nothing fits the kind, or a chosen item is not attached.
            TreeError: Something that appeared since cannot be stored.
        """
        if kind == "metrics":
            return {}
        if kind == "partial":
            return self._partial(chosen)
        flats = {name: captured.flat() for name, captured in self._captured.items()}
        if kind == "weights":
            weights = {name: flat for name, flat in flats.items() if _has_parameters(flat)}
            weights = weights or {name: flats[name] for name in flats if name == "model"}
            if not weights:
                raise ConfigError(
                    "nothing attached has trainable parameters, so kind='weights' is empty",
                    hint="attach the model under the name 'model', or choose items=",
                )
            return weights
        flats[RNG] = self._generators.flatten(rng.capture())
        return flats

    def _partial(self, chosen: Chosen) -> dict[str, tree.Flat]:
        if not chosen:
            raise ConfigError(
                "kind='partial' needs items=", hint="items=['model'] or {'model': 'head.*'}"
            )
        wanted = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen, "*")
        flats = {}
        for name, patterns in wanted.items():
            if name not in self._objects:
                raise ConfigError(
                    f"the item {name!r} is not attached",
                    hint=f"attached: {', '.join(self._objects) or 'nothing'}",
                )
            flat = self._captured[name].flat()
            flats[name] = flat if patterns == "*" else self._choose(flat, name, patterns)
        return flats

    def _choose(self, flat: tree.Flat, item: str, patterns: str | Iterable[str]) -> tree.Flat:
        globs = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        choice = self._choices.get(item)
        if choice is None or choice.whole is not flat.outline or choice.globs != globs:
            choice = self._choices[item] = _choice(flat, item, globs)
        leaves = {array.name: flat.leaves[array.name] for array in choice.outline.arrays}
        skeleton: Any = {name: leaf.node(name) for name, leaf in leaves.items()}
        return tree.Flat(skeleton, leaves, choice.outline.aliases, choice.outline)


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The arrays that were chosen of an item, good while its outline and the patterns are."""

    whole: tree.Outline
    globs: tuple[str, ...]
    outline: tree.Outline


def _choice(flat: tree.Flat, item: str, globs: tuple[str, ...]) -> _Choice:
    leaves = {
        name: leaf
        for name, leaf in flat.leaves.items()
        if any(fnmatch.fnmatchcase(name, glob) for glob in globs)
    }
    if not leaves:
        raise ConfigError(
            f"no array of {item!r} matches {', '.join(globs)}",
            hint="its arrays: " + ", ".join(list(flat.leaves)[:8]),
        )
    aliases = {alias: name for alias, name in flat.aliases.items() if name in leaves}
    return _Choice(flat.outline, globs, outline_all(leaves, aliases))


def _has_parameters(flat: tree.Flat) -> bool:
    # A frozen parameter is stable instead.
    return any(array.parameter or array.stable for array in flat.outline.arrays)
