"""How the core finds a framework's adapter, and when it does not."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn, optim

from holdfast import frameworks

APART = """
import sys
from holdfast import frameworks, rng, tree
import numpy
assert frameworks.present() == (), "torch was not imported yet"
tree.flatten({"w": numpy.zeros(2), "state": rng.capture()})
assert "torch" not in sys.modules
skeleton = {"$": "tensor", "array": "w", "dtype": "float32", "shape": [2]}
tree.array_nodes(skeleton)
assert "torch" not in sys.modules
tensor = tree.unflatten(skeleton, {"w": bytearray(8)})
assert type(tensor).__module__ == "torch"
assert [framework.name for framework in frameworks.present()] == ["torch"]
print("fine")
"""


def test_torch_is_imported_when_a_tensor_is_loaded_and_not_before():
    done = subprocess.run(
        [sys.executable, "-c", APART], capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr


def test_a_framework_that_is_not_installed_has_no_adapter():
    assert frameworks.load("no_such_framework") is None
    assert frameworks.load("torch") is frameworks.present()[0]


def test_optimizer_steps_are_counted():
    model = nn.Linear(1, 1)
    optimizers = [optim.SGD(model.parameters(), lr=0.1), optim.AdamW(model.parameters())]
    model(torch.ones(1, 1)).sum().backward()
    adapter = frameworks.present()[0]
    before = adapter.updates()
    for optimizer in optimizers:
        optimizer.step()
    assert adapter.updates() == before + 2


def test_seeds_are_told():
    torch.manual_seed(1234)
    assert frameworks.present()[0].seeds() == {"cpu": 1234}
