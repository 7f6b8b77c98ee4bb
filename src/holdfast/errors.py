"""The errors that Holdfast raises: one tree, each with an exit code and what to do."""

from __future__ import annotations


class HoldfastError(Exception):
    """Base of every error that Holdfast raises on purpose.

    Args:
        message: What is wrong, naming the thing.
        hint: What to do about it, as a sentence.

    Attributes:
        message: As passed.
        hint: As passed, or an empty string.
        exit_code: What the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(HoldfastError):
    """An argument, a name or a setting that cannot be meant."""

    exit_code = 2


class NotFoundError(HoldfastError):
    """No such store, run, checkpoint, item or tag.

    Attributes:
        nearest: Names that exist and look like the one asked for.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.nearest = nearest


class LockedError(HoldfastError):
    """Another process holds what this one needs.

    Attributes:
        holder: Who holds it, as far as is known (``"pid 4711 on node3"``).
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", holder: str = "") -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class IntegrityError(HoldfastError):
    """Stored bytes are not the bytes that were written.

    Attributes:
        path: The damaged file, relative to its store.
        tensor: The damaged tensor, or an empty string when it is not one.
        paths: All damaged files, where the error speaks of several.
        missing: Whether the file is not there at all.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        path: str = "",
        tensor: str = "",
        paths: tuple[str, ...] = (),
        missing: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.tensor = tensor
        self.missing = missing
        self.paths = paths or ((path,) if path else ())


class FormatError(HoldfastError):
    """A file that is not in Holdfast's format, or in a newer version of it."""

    exit_code = 6


class StorageFullError(HoldfastError):
    """The medium has no room for what was to be written.

    Attributes:
        needed: Bytes that were to be written, or 0 when not known.
        free: Bytes that were free, or 0 when not known.
    """

    exit_code = 7

    def __init__(self, message: str, *, hint: str = "", needed: int = 0, free: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.free = free


class SaveError(HoldfastError):
    """A save that did not become durable; its cause is chained."""

    exit_code = 8


class TreeError(HoldfastError):
    """A state that cannot be stored, or that does not fit the object it is restored into.

    Attributes:
        problems: One line per problem, each starting with the path in the tree.
    """

    exit_code = 9

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class MetricError(HoldfastError):
    """A metric's value that is not a number."""

    exit_code = 10
