"""examples/digits_vit: the demo kills for real, and its proof would notice a single bit."""

import importlib.util
import math
import re
import shlex
import subprocess
import sys

import pytest
import torch

import holdfast
from tests.examples.running import EXAMPLES, run_example

FOLDER = EXAMPLES / "digits_vit"
SMALL = ("--steps", 60, "--kill-after", 34, "--check-every", 10, "--save-every", 15,
         "--width", 32, "--depth", 1)  # fmt: skip


def part(name: str):
    """Returns a module of the example, which is no package."""
    spec = importlib.util.spec_from_file_location(f"digits_vit_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up there while it is being made.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_demo_kills_resumes_and_ends_bit_for_bit_the_same(tmp_path):
    done = run_example("digits_vit/demo.py", "--folder", tmp_path / "store", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    killed = int(re.search(r"SIGKILL after step (\d+)", done.stdout)[1])
    resumed = int(re.search(r"It went on with step (\d+)", done.stdout)[1])
    assert 34 <= killed < 59
    assert 0 < resumed <= killed + 1
    assert "Killed, resumed, and bit for bit the same." in done.stdout
    assert str(tmp_path / "store") in done.stdout

    commands = re.findall(r"^  (\S*holdfast .*)$", done.stdout, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        typed = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        assert typed.returncode == 0, command + typed.stderr

    with holdfast.open(tmp_path / "store", mode="r") as store:
        one, other = store["vit"], store["vit-uninterrupted"]
        assert (one.status, other.status) == ("finished", "finished")
        bits = [[(s, v.hex()) for s, v in run.history("loss")] for run in (one, other)]
        assert bits[0] == bits[1]
        assert len(bits[0]) == 60
        for checkpoint in store.checkpoints():
            checkpoint.verify()
        # Equal weights of two runs are stored once.
        assert store.usage().stored_nbytes < 0.7 * store.usage().nbytes


@pytest.mark.slow
def test_the_demo_refuses_a_folder_with_other_runs_and_leaves_it_alone(tmp_path):
    with holdfast.open(tmp_path / "store") as store, store.run("precious") as run:
        run.attach(state={"weights": torch.ones(3)})
        run.save(0).wait()
    done = run_example("digits_vit/demo.py", "--folder", tmp_path / "store", *SMALL, cwd=tmp_path)
    assert done.returncode == 1
    assert "other runs" in done.stderr
    with holdfast.open(tmp_path / "store", mode="r") as store:
        assert len(store.checkpoints("precious")) == 1


ONE = {0: 0.5, 1: 0.25, 2: 0.125}


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (ONE, []),
        ({**ONE, 1: math.nextafter(0.25, 1)}, [1]),
        ({0: 0.5, 2: 0.125}, [1]),
        ({}, [0, 1, 2]),
    ],
)
def test_a_single_bit_or_a_missing_step_is_a_difference(other, differing):
    show = part("show")
    assert show.differing_steps(ONE, other, steps=range(3)) == differing
    assert show.differing_steps(other, ONE, steps=range(3)) == differing


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("step 7: loss 0.1234\n", (7, False)),
        ("step 19: loss 0.1234, saved (improved: val_loss 0.2 (best so far 0.3))\n", (19, True)),
    ],
)
def test_a_line_of_the_training_says_whether_it_saved(line, seen):
    assert part("show").parse_step(line) == seen


def test_batches_go_on_where_their_state_was_taken():
    model = part("model")
    split = model.Split(torch.arange(20).float().reshape(20, 1, 1, 1), torch.arange(20))

    def numbers(batches, count):
        return [batches.next()[1].tolist() for _ in range(count)]

    first = model.ShuffledBatches(split, batch_size=6, seed=1)
    numbers(first, 4)
    state = first.state_dict()
    epoch = first.epoch
    expected = numbers(first, 9)
    second = model.ShuffledBatches(split, batch_size=6, seed=2)
    second.load_state_dict(state)
    assert second.epoch == epoch
    assert numbers(second, 9) == expected
    assert len({tuple(batch) for batch in expected}) == 9


def test_no_image_is_in_two_parts_of_the_data():
    splits = part("model").load_splits()
    images = torch.cat([split.images.flatten(1) for split in splits.values()])
    assert sum(map(len, splits.values())) == len(images) == 1797
    assert len(images.unique(dim=0)) == 1797
