"""Policies from their text, as journals keep it: calls of known names and nothing else.

The text is parsed into Python's syntax tree and walked. Nothing is evaluated: a name, an
attribute or an operator that is not in the vocabulary is an error that shows where it stands.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast import keep, when
from holdfast.errors import ConfigError
from holdfast.policy.retention import KeepPolicy
from holdfast.policy.saving import SavePolicy
from holdfast.strategy import CheckpointStrategy

#: Far above what anyone writes, and far below what the parser's stack cannot bear.
MAX_LENGTH: Final = 4000

_Calls = Mapping[str, Callable[..., object]]

_KEEP: Final[_Calls] = {
    **{f"keep.{name}": getattr(keep, name) for name in keep.__all__ if name.islower()},
    "CheckpointStrategy": CheckpointStrategy,
}
_SAVE: Final[_Calls] = {
    f"when.{name}": getattr(when, name) for name in when.__all__ if name.islower()
}
_METHODS: Final = ("items", "capped")
_JOINS: Final[Mapping[type[ast.operator], Callable[[Any, Any], object]]] = {
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}


def parse_keep(text: str) -> KeepPolicy:
    """Returns the keep policy that an expression makes, such as ``keep.best(3, 'loss')``.

    Args:
        text: What `str` makes of a keep policy, or what a user typed in its place; ``keep.`` may
            be left out.

    Raises:
        ConfigError: It is no such expression; the message shows where it stops being one.
    """
    policy = _Reader(text, _KEEP).read()
    if not isinstance(policy, KeepPolicy):
        raise ConfigError(
            f"{text!r} is no keep policy", hint="write for example keep.best(3) | keep.latest(2)"
        )
    return policy


def parse_save(text: str) -> SavePolicy:
    """Returns the save policy that an expression makes, such as ``when.every(steps=100)``.

    Args:
        text: What `str` makes of a save policy, or what a user typed in its place; ``when.`` may
            be left out.

    Raises:
        ConfigError: It is no such expression; the message shows where it stops being one.
    """
    policy = _Reader(text, _SAVE).read()
    if not isinstance(policy, SavePolicy):
        raise ConfigError(
            f"{text!r} is no save policy",
            hint="write for example when.improved() | when.every(steps=100)",
        )
    return policy


class _Reader:
    """One walk over an expression."""

    def __init__(self, text: str, calls: _Calls) -> None:
        self._text = text
        self._known = calls
        # On a command line, where it is clear which policy is meant, the module can be left out.
        self._calls = {**calls, **{name.rpartition(".")[2]: call for name, call in calls.items()}}

    def read(self) -> object:
        if len(self._text) > MAX_LENGTH:
            raise ConfigError(
                f"a policy is a text of up to {MAX_LENGTH} characters", hint="shorten it"
            )
        try:
            tree = ast.parse(self._text.strip(), mode="eval")
            return self._policy(tree.body)
        except SyntaxError as error:
            raise self._refusal(error.msg, (error.offset or 1) - 1) from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._refusal(f"cannot be parsed ({error})", 0) from error

    def _policy(self, node: ast.expr) -> object:
        if isinstance(node, ast.BinOp) and type(node.op) in _JOINS:
            left, right = self._policy(node.left), self._policy(node.right)
            return self._attempt(node, _JOINS[type(node.op)], left, right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self._attempt(node, operator.invert, self._policy(node.operand))
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._unknown(node, "no call of a policy")

    def _call(self, node: ast.Call) -> object:
        positional = [self._constant(argument) for argument in node.args]
        named: dict[str, object] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._unknown(keyword.value, "** has no place here")
            named[keyword.arg] = self._constant(keyword.value)
        return self._attempt(node, self._callee(node.func), *positional, **named)

    def _callee(self, node: ast.expr) -> Callable[..., object]:
        name = _dotted(node)
        if name in self._calls:
            return self._calls[name]
        method = isinstance(node, ast.Attribute) and node.attr in _METHODS
        if method and isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name):
            owner = self._policy(node.value)
            if isinstance(owner, KeepPolicy):
                return owner.items if node.attr == "items" else owner.capped
        raise self._unknown(node, "no known policy")

    def _constant(self, node: ast.expr) -> object:
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._constant(node.operand)
            if type(value) in (int, float):
                return -value  # type: ignore[operator]
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self._constant(part) for part in node.elts)
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [self._constant(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(self._constant, node.values), strict=True))
        raise self._unknown(node, "no constant")

    def _attempt(
        self,
        node: ast.expr,
        make: Callable[..., object],
        *positional: object,
        **named: object,
    ) -> object:
        try:
            return make(*positional, **named)
        except ConfigError as error:
            raise self._refusal(error.message, self._offset(node), hint=error.hint) from error
        except TypeError as error:
            raise self._refusal(str(error), self._offset(node)) from error

    def _unknown(self, node: ast.expr, what: str) -> ConfigError:
        return self._refusal(f"{ast.unparse(node)} is {what}", self._offset(node))

    def _offset(self, node: ast.expr) -> int:
        """Returns where a node begins, in characters: the syntax tree counts bytes of UTF-8."""
        lines = self._text.strip().split("\n")[: node.lineno]
        begin = lines[-1].encode()[: node.col_offset].decode(errors="replace")
        return sum(len(line) + 1 for line in lines[:-1]) + len(begin)

    def _refusal(self, why: str, offset: int, *, hint: str = "") -> ConfigError:
        shown = self._text.strip().replace("\n", " ")
        return ConfigError(
            f"the policy cannot be read at character {offset + 1}: {why}\n"
            f"  {shown}\n  {' ' * offset}^",
            hint=hint or f"known: {', '.join(self._vocabulary())}, joined by |",
        )

    def _vocabulary(self) -> list[str]:
        return sorted(name for name in self._calls if "." in name or not name.islower())


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""
