"""What ten checkpoints take on the disk, as a multiple of the state, and the rule behind it.

A shard is reused whole or not at all. So a checkpoint costs the shards of what changed, and what
lay beside something that changed is written once more when it is first seen to rest.
"""

import pytest
import torch

import holdfast
from holdfast import keep, when
from tests.runs.samples import saved

CHECKPOINTS = 10
#: A tenth of the state, in numbers of 4 bytes: well above what gets no shard of its own.
TENTH = 50_000
STATE_NBYTES = 10 * TENTH * 4
#: Headers (a page per shard) and the states of the random number generators.
SLACK = 0.06


class Model(torch.nn.Module):
    """Parameters by name, each of so many tenths of the state."""

    def __init__(self, tenths, *, frozen=()):
        super().__init__()
        for name, size in tenths.items():
            parameter = torch.nn.Parameter(torch.rand(int(size * TENTH)))
            self.register_parameter(name, parameter.requires_grad_(name not in frozen))

    def train_on(self, *names, rows=None):
        """Changes parameters; of `rows` only so many numbers."""
        with torch.no_grad():
            for name in names:
                self.get_parameter(name)[:rows] += 1


@pytest.fixture
def store(tmp_path):
    with holdfast.open(tmp_path / "store") as opened:
        yield opened


def multiples(store, model, change, *, count=CHECKPOINTS):
    """Trains, saves each step, and returns what is stored as a multiple of the state.

    Args:
        store: An empty store.
        model: What is saved.
        change: Called with the step before each save.
        count: How many saves.

    Returns:
        The multiple, after asserting that usage, checkpoints and files agree on it.
    """
    with store.run("run", save=when.never(), keep=keep.all()) as run:
        run.attach(model=model)
        checkpoints = []
        for step in range(count):
            change(step)
            before = {name: value.clone() for name, value in model.state_dict().items()}
            checkpoints.append(saved(run, step))
            for name, value in checkpoints[-1].load("model").items():
                assert torch.equal(value, before[name])
    files = {p.stat().st_ino: p.stat().st_size for p in store.path.rglob("*.safetensors")}
    usage = store.usage()
    assert usage.stored_nbytes == sum(files.values())
    assert usage.nbytes == sum(checkpoint.nbytes for checkpoint in checkpoints)
    assert usage.saved_nbytes == max(0, usage.nbytes - usage.stored_nbytes)
    indexes = sum(path.stat().st_size for path in store.path.rglob("*.safetensors.index.json"))
    written = sum(checkpoint.stored_nbytes for checkpoint in checkpoints)
    assert written == usage.stored_nbytes + indexes
    return usage.stored_nbytes / STATE_NBYTES


def rule(*shares):
    """Returns the bounds of a sum of what each checkpoint has to write."""
    total = sum(shares)
    assert len(shares) == CHECKPOINTS
    return total, total + SLACK


def test_a_frozen_backbone_is_stored_once(store):
    model = Model({"backbone": 9, "head": 1}, frozen={"backbone"})
    low, high = rule(1, *[0.1] * 9)
    assert low <= multiples(store, model, lambda _: model.train_on("head")) <= high <= 2.0


def test_without_the_hint_it_is_stored_once_more_when_it_is_seen_to_rest(store):
    model = Model({"backbone": 9, "head": 1})
    low, high = rule(1, 1, *[0.1] * 8)
    assert low <= multiples(store, model, lambda _: model.train_on("head")) <= high


def test_adapters_on_a_large_frozen_base_cost_the_adapters(store):
    adapters = {f"layer{n}_{side}": 0.05 for n in range(4) for side in "ab"}
    model = Model({"base": 9.6, **adapters}, frozen={"base"})
    low, high = rule(1, *[0.04] * 9)
    assert low <= multiples(store, model, lambda _: model.train_on(*adapters)) <= high


def test_tied_weights_are_stored_once_in_each_checkpoint(store):
    model = Model({"embedding": 5, "body": 5})
    model.output = model.embedding
    low, high = rule(*[1] * 10)
    assert low <= multiples(store, model, lambda _: model.train_on("embedding", "body")) <= high


def test_a_tied_table_that_rests_is_stored_once(store):
    model = Model({"embedding": 6, "body": 4}, frozen={"embedding"})
    model.output = model.embedding
    low, high = rule(1, *[0.4] * 9)
    assert low <= multiples(store, model, lambda _: model.train_on("body")) <= high


def test_a_backbone_that_is_unfrozen_half_way_costs_from_then_on(store):
    model = Model({"backbone": 9, "head": 1}, frozen={"backbone"})

    def change(step):
        if step == 5:
            model.backbone.requires_grad_(True)
        model.train_on("head", *(["backbone"] if step >= 5 else []))

    low, high = rule(1, *[0.1] * 4, *[1] * 5)
    assert low <= multiples(store, model, change) <= high


def test_a_backbone_that_comes_to_rest_half_way_is_stored_once_more(store):
    model = Model({"backbone": 9, "head": 1})

    def change(step):
        model.train_on("head", *(["backbone"] if step < 5 else []))

    low, high = rule(*[1] * 5, 1, *[0.1] * 4)
    assert low <= multiples(store, model, change) <= high


def test_one_row_that_changes_costs_the_whole_table(store):
    # See docs/decisions/010-a-table-is-stored-whole.md.
    model = Model({"backbone": 4, "table": 5, "head": 1}, frozen={"backbone"})

    def change(_):
        model.train_on("head")
        model.train_on("table", rows=8)

    low, high = rule(1, *[0.6] * 9)
    assert low <= multiples(store, model, change) <= high


def test_a_table_in_blocks_costs_the_blocks_that_change(store):
    blocks = {f"table{n}": 0.5 for n in range(10)}
    model = Model({"backbone": 4, **blocks, "head": 1}, frozen={"backbone"})

    def change(_):
        model.train_on("head")
        model.train_on("table0", rows=8)

    # The other blocks are seen to rest at the second save, and written once more then.
    low, high = rule(1, 0.6, *[0.15] * 8)
    assert low <= multiples(store, model, change) <= high


def test_the_same_state_again_and_again_costs_nothing(store):
    model = Model({"all": 10})
    low, high = rule(1, *[0] * 9)
    assert low <= multiples(store, model, lambda _: None) <= high


def test_a_second_run_from_the_same_base_shares_it(store):
    base = torch.rand(9 * TENTH)

    def train(name):
        model = Model({"head": 1})
        model.base = torch.nn.Parameter(base.clone(), requires_grad=False)
        with store.run(name, save=when.never(), keep=keep.all()) as run:
            run.attach(model=model)
            for step in range(3):
                model.train_on("head")
                saved(run, step)

    train("one")
    before = store.usage().stored_nbytes
    train("other")
    added = (store.usage().stored_nbytes - before) / STATE_NBYTES
    assert 0.3 <= added <= 0.3 + SLACK
    usage = store.usage()
    assert usage.of("one").unique_nbytes < 0.4 * STATE_NBYTES < usage.of("one").stored_nbytes
    assert usage.saved_nbytes / STATE_NBYTES == pytest.approx(6 - 0.9 - 0.6, abs=SLACK)
