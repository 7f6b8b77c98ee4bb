"""The presets: their numbers, and what they decide."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.presets import preset
from tests.policies.samples import moment

NUMBERS = [
    ("conservative", 20, 50, "0.1%"),
    ("balanced", 10, 100, "0.5%"),
    ("aggressive", 5, 200, "1%"),
]


@pytest.mark.parametrize(("name", "best", "steps", "by"), NUMBERS)
def test_a_preset_saves_when_improved_or_as_a_backup_and_keeps_the_best(name, best, steps, by):
    save, keep = preset(name, metric="loss")
    assert str(save) == f"when.improved('loss', by='{by}') | when.every(steps={steps})"
    assert str(keep) == f"keep.best({best}, 'loss')"


@pytest.mark.parametrize(
    ("name", "share"), [("conservative", 0.001), ("balanced", 0.005), ("aggressive", 0.01)]
)
def test_a_preset_asks_for_its_share_of_improvement(name, share):
    save, _ = preset(name)
    bound = save.bind("loss", None)
    for value, improved in [(1 - 1.1 * share, True), (1 - 0.9 * share, False)]:
        assert (
            bound.decide(moment(5, metrics={"loss": value}, best={"loss": (1.0, 1.0)})).save
            == improved
        )


def test_an_unknown_preset_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="conservative, balanced, aggressive"):
        preset("reckless")
