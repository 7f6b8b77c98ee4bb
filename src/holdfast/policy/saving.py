"""Save policies: what all of them can do, and how they join."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from holdfast.model import Moment, Verdict
from holdfast.policy import verdicts
from holdfast.policy.metric import MetricRef
from holdfast.policy.policy import Policy, same_kind

Code = Literal[
    "improved",
    "interval",
    "changed",
    "at",
    "preempted",
    "interrupted",
    "deadline",
    "budget",
    "always",
    "never",
]


class SavePolicy(Policy):
    """Says whether a moment is worth a checkpoint. Made by the functions of `holdfast.when`.

    Policies are values: equal when they say the same, and their `repr` is the expression that
    makes them. ``a | b`` saves when either does, ``a & b`` when both do, ``~a`` when a does not.
    """

    __slots__ = ()

    def decide(self, moment: Moment) -> Verdict:
        """Returns whether to save, and why or why not.

        Raises:
            ConfigError: The policy needs a metric or its direction and was not told.
        """
        return self._judge(moment)

    def rules(self) -> tuple[Rule, ...]:
        """Returns the rules that it is made of, at any depth, in the order they were written."""
        return tuple(rule for part in self._parts() for rule in part.rules())

    def signals(self) -> tuple[str, ...]:
        """Returns the signals that a run has to listen for, without their ``SIG``."""
        return tuple(dict.fromkeys(name for rule in self.rules() for name in rule.listens_to))

    def uses(self, code: Code) -> bool:
        """Returns whether a rule with this code is part of it, at any depth."""
        return any(rule.code == code for rule in self.rules())

    @abstractmethod
    def _judge(self, moment: Moment) -> Verdict: ...

    def _parts(self) -> Sequence[SavePolicy]:
        return ()

    def __or__(self, other: SavePolicy) -> SavePolicy:
        same_kind(self, other, SavePolicy, sign="|")
        return AnyOf((*_flat(self, AnyOf), *_flat(other, AnyOf)))

    def __and__(self, other: SavePolicy) -> SavePolicy:
        same_kind(self, other, SavePolicy, sign="&")
        return AllOf((*_flat(self, AllOf), *_flat(other, AllOf)))

    def __invert__(self) -> SavePolicy:
        return Not(self)

    # Reached only when the left operand is no save policy: the error is the answer.
    def __ror__(self, other: object) -> SavePolicy:
        same_kind(other, self, SavePolicy, sign="|")
        return self

    def __rand__(self, other: object) -> SavePolicy:
        same_kind(other, self, SavePolicy, sign="&")
        return self


class Rule(SavePolicy):
    """A save policy that is not made of others.

    Attributes:
        code: First word of its reasons.
        listens_to: Signals that a run has to listen for on its behalf.
    """

    __slots__ = ()

    code: ClassVar[Code]
    listens_to: tuple[str, ...] = ()

    def rules(self) -> tuple[Rule, ...]:
        """Returns itself."""
        return (self,)

    def _because(self, save: bool, numbers: str) -> Verdict:
        return Verdict(save, f"{self.code}: {numbers}")


@dataclass(frozen=True, slots=True)
class _Joined(SavePolicy):
    parts: tuple[SavePolicy, ...]

    def _parts(self) -> Sequence[SavePolicy]:
        return self.parts

    def _bound(self, run: MetricRef) -> Self:
        return replace(self, parts=tuple(part.bind(run.name, run.mode) for part in self.parts))


@dataclass(frozen=True, slots=True)
class AnyOf(_Joined):
    """Saves when one of its parts does."""

    def _judge(self, moment: Moment) -> Verdict:
        return verdicts.any_of([part.decide(moment) for part in self.parts])

    def __repr__(self) -> str:
        return " | ".join(repr(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AllOf(_Joined):
    """Saves when all of its parts do."""

    def _judge(self, moment: Moment) -> Verdict:
        return verdicts.all_of([part.decide(moment) for part in self.parts])

    def __repr__(self) -> str:
        return " & ".join(
            f"({part!r})" if isinstance(part, AnyOf) else repr(part) for part in self.parts
        )


@dataclass(frozen=True, slots=True)
class Not(SavePolicy):
    """Saves when the inner policy does not."""

    inner: SavePolicy

    def _judge(self, moment: Moment) -> Verdict:
        return verdicts.opposite(self.inner.decide(moment))

    def _parts(self) -> Sequence[SavePolicy]:
        return (self.inner,)

    def _bound(self, run: MetricRef) -> Self:
        return replace(self, inner=self.inner.bind(run.name, run.mode))

    def __repr__(self) -> str:
        return f"~({self.inner!r})" if isinstance(self.inner, _Joined) else f"~{self.inner!r}"


def _flat(policy: SavePolicy, kind: type[_Joined]) -> tuple[SavePolicy, ...]:
    return policy.parts if isinstance(policy, kind) else (policy,)
