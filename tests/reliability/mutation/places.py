"""Where the source makes something durable or checks it: found by what it says, not by its lines.

Each place gives a mutant: the smallest edit that takes the protection out and leaves the rest.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

#: Kind to what it takes out, as the report says it.
KINDS: Final[Mapping[str, str]] = {
    "sync": "a sync of a file or a folder",
    "durable": "the wish for durability",
    "write loop": "the second try of a short read or write",
    "rename": "a rename",
    "temporary": "the temporary name",
    "mode": "the read-only mode",
    "exclusive": "the refusal of what is there already",
    "digest": "a comparison of digests",
    "length": "a comparison of lengths",
    "recheck": "a look before a change",
    "lock": "a lock",
    "order": "the order of two steps",
}

#: What disturbs the others, and what touches no store.
_INSTRUMENTS: Final = re.compile(
    r"testing/|storage/(faults|recording)\.py$|adapters/|policy/|cli/|catalog/"
)

_SYNCS: Final = {"fsync", "fdatasync", "fsync_folder", "sync_folder", "_sync_folder"}
_WISHES: Final = {"durable", "sync_folder"}
_FLAGS: Final = {"O_EXCL", "O_NOFOLLOW", "O_APPEND", "O_NONBLOCK"}
_PARTIAL: Final = {"write", "pwrite", "_append_some", "_read"}
_SOUND: Final = {"is_sound", "_is_shard"}
#: What is looked at again before something is changed, and the answer that lets the change pass.
_LOOKS: Final = {"has_manifest": "", "lexists": "False", "_holds": "True", "belongs": "True"}
_DIGEST: Final = re.compile(r"\b(hexdigest|digests?|blake3)\b|\.shard\b")
_LENGTH: Final = re.compile(
    r"nbytes|\b(st_)?size\b|length|limit|expected|written|\bcount|begin|end\b|len\("
)
_RELIED_ON: Final = re.compile(r"journal_nbytes|relied_on")
_AGAIN: Final = re.compile(r"link_count|st_nlink|generation\b|pinned\b|_said\(|open_plan")
_REFUSALS: Final = re.compile(r"\braise\b|damage\.append|journal\.append|_failed\(")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit of one file.

    Attributes:
        path: The file, relative to ``src/holdfast``.
        function: Qualified name of the function; empty at the top of the file.
        kind: One of `KINDS`.
        was: The text that goes, on one line.
        now: The text that comes instead.
        start: Offset of the first byte that goes.
        end: Offset behind the last one.
        number: Which one, of those that read the same in this function; from 1.
    """

    path: str
    function: str
    kind: str
    was: str
    now: str
    start: int
    end: int
    number: int = 1

    @property
    def name(self) -> str:
        """What it is called, whatever the line: the same after an edit elsewhere."""
        which = f" ({self.number})" if self.number > 1 else ""
        return f"{self.path} {self.function}: {self.kind}: {self.was}{which}"

    def applied(self, source: bytes) -> bytes:
        """Returns the file's bytes with the edit made."""
        return source[: self.start] + self.now.encode() + source[self.end :]


Edit = tuple[str, ast.AST, str]
Finder = Callable[["Source", ast.AST], Iterator[Edit]]


class Source:
    """A parsed file.

    Args:
        path: Relative to ``src/holdfast``.
        data: Its bytes.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        self.tree = ast.parse(data)
        self._parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        self._lines = [0]
        for line in data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Returns a node's first byte, and the one behind its last."""
        assert isinstance(node, (ast.expr, ast.stmt, ast.keyword))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> str:
        """Returns a node as it is written."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yields what a node is part of, from within outwards."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Returns what a node is part of."""
        return self._parents.get(node)

    def function(self, node: ast.AST) -> str:
        """Returns the qualified name of the function that holds a node."""
        named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        names = [outer.name for outer in self.above(node) if isinstance(outer, named)]
        return ".".join(reversed(names))

    def question_of(self, node: ast.AST) -> tuple[ast.If | None, bool]:
        """Returns the ``if`` whose question a node is part of, and whether it is asked negated."""
        negated = False
        for outer in self.above(node):
            if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not):
                negated = not negated
            if isinstance(outer, ast.If):
                return (outer if node in ast.walk(outer.test) else None), negated
            if isinstance(outer, ast.stmt):
                break
        return None, negated


def find(package: Path) -> list[Mutant]:
    """Returns the mutants of a package, file by file and from top to bottom."""
    mutants: list[Mutant] = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).as_posix()
        if not _INSTRUMENTS.match(relative):
            mutants += of_file(relative, path.read_bytes())
    return mutants


def of_file(path: str, data: bytes) -> list[Mutant]:
    """Returns the mutants of one file, from top to bottom."""
    source = Source(path, data)
    found: dict[tuple[int, int], Mutant] = {}
    for node in ast.walk(source.tree):
        for finder in _FINDERS:
            for kind, what, now in finder(source, node):
                start, end = source.span(what)
                was = " ".join(source.text(what).split())
                if kind == "write loop":
                    end = source.span(what.test)[1]  # type: ignore[attr-defined]
                    was = " ".join(data[start:end].decode().split())
                mutant = Mutant(path, source.function(what), kind, was, now, start, end)
                found.setdefault((start, end), mutant)
    seen: Counter[str] = Counter()
    ordered = []
    for mutant in sorted(found.values(), key=lambda one: one.start):
        seen[mutant.name] += 1
        ordered.append(replace(mutant, number=seen[mutant.name]))
    return ordered


# -- what is looked for --------------------------------------------------------------------------


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _without(source: Source, call: ast.AST, *, value: str) -> tuple[ast.AST, str]:
    """Returns what to replace so that a call is not made: its statement, or its value."""
    parent = source.parent(call)
    return (parent, "pass") if isinstance(parent, ast.Expr) else (call, value)


def _syncs(source: Source, node: ast.AST) -> Iterator[Edit]:
    full = isinstance(node, ast.Call) and "_F_FULLFSYNC" in ast.unparse(node)
    if _called(node) in _SYNCS or full:
        yield "sync", *_without(source, node, value="True")


def _wishes(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Call):
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        for wish in _WISHES & named.keys():
            if ast.unparse(named[wish]) != "False":
                yield "durable", named[wish], "False"
        if _called(node) == "make_folder" and "durable" not in named:
            text = source.text(node)[:-1].rstrip().removesuffix(",")
            yield "durable", node, f"{text}, durable=False)"
    if isinstance(node, ast.If):
        for name in ast.walk(node.test):
            if isinstance(name, ast.Name) and name.id in _WISHES:
                yield "durable", name, "False"
    yield from _defaults(node, "durable", _WISHES)


def _defaults(node: ast.AST, kind: str, names: set[str]) -> Iterator[Edit]:
    if isinstance(node, ast.FunctionDef):
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            if argument.arg in names and default is not None and ast.unparse(default) == "True":
                yield kind, default, "False"


def _loops(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.While) and any(_called(inner) in _PARTIAL for inner in ast.walk(node)):
        # A loop still, for what it holds may go on to the next round.
        yield "write loop", node, f"for _once in range(bool({source.text(node.test)}))"


def _renames(source: Source, node: ast.AST) -> Iterator[Edit]:
    if _called(node) in ("rename", "renames") and isinstance(source.parent(node), ast.Expr):
        yield "rename", *_without(source, node, value="None")
    if _called(node) == "_temporary" and isinstance(node, ast.Call):
        outer = source.parent(node)
        if not isinstance(outer, ast.withitem):
            yield "temporary", node, source.text(node.args[0])


def _modes(source: Source, node: ast.AST) -> Iterator[Edit]:
    if _called(node) in ("fchmod", "chmod"):
        yield "mode", *_without(source, node, value="None")


def _exclusives(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.keyword) and node.arg == "exclusive":
        yield "exclusive", node.value, "False"
    if isinstance(node, ast.If):
        for name in ast.walk(node.test):
            if isinstance(name, ast.Name) and name.id == "exclusive":
                yield "exclusive", name, "False"
    if isinstance(node, ast.Attribute) and node.attr in _FLAGS:
        yield "exclusive", node, "0"
    if isinstance(node, ast.Constant) and node.value == "xb":
        yield "exclusive", node, '"wb"'


def _comparisons(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Compare) or any(
        isinstance(side, ast.Constant) and side.value is None for side in node.comparators
    ):
        return
    text = ast.unparse(node)
    test, negated = source.question_of(node)
    refuses = test is not None and any(_REFUSALS.search(source.text(inner)) for inner in test.body)
    equal = isinstance(node.ops[0], (ast.Eq, ast.NotEq))
    if equal and not refuses:
        passes = str(isinstance(node.ops[0], ast.Eq))
    else:
        passes = str(negated or isinstance(node.ops[0], ast.NotIn))
    if _DIGEST.search(text) and equal:
        yield "digest", node, passes
    elif _AGAIN.search(text):
        yield "recheck", node, passes
    elif _RELIED_ON.search(text) or (refuses and _LENGTH.search(text)):
        yield "length", node, passes


def _looks(source: Source, node: ast.AST) -> Iterator[Edit]:
    called = _called(node)
    if called in _SOUND:
        yield "digest", node, "True"
    if called in _LOOKS:
        test, negated = source.question_of(node)
        yield "recheck", node, _passing(_LOOKS[called], test, negated=negated)


def _passing(answer: str, test: ast.If | None, *, negated: bool) -> str:
    """Returns the answer after which nothing is held up: what is asked may be a guard, or not."""
    if answer:
        return answer
    return str(test is None or negated)


def _locks(source: Source, node: ast.AST) -> Iterator[Edit]:
    if _called(node) in ("acquire", "flock") and isinstance(source.parent(node), ast.Expr):
        yield "lock", *_without(source, node, value="None")


_FINDERS: Final[tuple[Finder, ...]] = (
    _syncs,
    _wishes,
    _loops,
    _renames,
    _modes,
    _exclusives,
    _comparisons,
    _looks,
    _locks,
)
