"""No code comes out of data: nothing of Holdfast unpickles, and nothing runs what it read."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[2] / "src" / "holdfast"
UNPICKLING = {"pickle", "_pickle", "cPickle", "pickletools", "marshal", "shelve", "dill",
              "cloudpickle", "joblib", "pandas"}  # fmt: skip
RUNNING = {"eval", "exec", "compile", "__import__", "import_module", "run_module", "run_path"}
#: Where torch's own files are exchanged with other tools, always with `weights_only=True`.
EXCHANGE = "holdfast.adapters.torch.files"

#: Loads all that there is to load, then asks every command, with what unpickles made to fail.
PROGRAM = """
import importlib.abc, pkgutil, sys
from pathlib import Path

folder = Path(sys.argv[1])
refused = []

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dill", "cloudpickle", "joblib", "shelve"):
            refused.append(name)
        return None

import numpy, torch
import pickle

sys.meta_path.insert(0, Watch())

def fail(*_arguments, **_options):
    raise AssertionError("something was unpickled")

class Unpickler:
    __init__ = load = fail

pickle.load = pickle.loads = pickle._load = pickle._loads = fail
pickle.Unpickler = pickle._Unpickler = Unpickler
numpy.load = fail

import holdfast
for module in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
    if not module.name.endswith("__main__"):
        __import__(module.name)

torch.load = fail
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(model.parameters())
with holdfast.open(folder / "store", mode="a") as store:
    run = store.run("mine", metric="loss")
    run.attach(model=model, optimizer=optimizer)
    assert run.resume() == 2
    run.close()
    checkpoint = store.get("mine@latest")
    checkpoint.restore(model=model, optimizer=optimizer)
    checkpoint.load("model")
    checkpoint.load("rng")
    assert store.verify().ok
    store.diff("mine@latest", "mine@latest", norms=True)
    store.import_checkpoint(folder / "export", run="again")
    store.import_checkpoint(folder / "hf", run="other")
    store.reindex()
    store.repair(apply=True)

from typer.testing import CliRunner
from holdfast.cli.app import app
for words in ("runs", "ls", "show mine@latest", "usage", "verify", "doctor", "explain mine@latest"):
    result = CliRunner().invoke(app, ["-s", str(folder / "store"), *words.split()])
    assert result.exit_code == 0, (words, result.output)
assert refused == [], refused
print("nothing was unpickled")
"""


@pytest.fixture
def folder(tmp_path):
    import torch

    import holdfast

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    with holdfast.open(tmp_path / "store") as store:
        run = store.run("mine", metric="loss")
        run.attach(model=model, optimizer=optimizer)
        for step in range(2):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            run.save(step, {"loss": 1.0}).wait()
        run.close()
        store.latest("mine").export(tmp_path / "export")
        store.latest("mine").export(tmp_path / "hf", "huggingface")
    return tmp_path


@pytest.mark.slow
def test_no_load_and_no_command_unpickles_anything(folder):
    """torch and numpy import pickle for their own ends; that nothing calls it is what is shown."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("nothing was unpickled")


def calls(text):
    """Returns the names of what a module calls, and the calls."""
    nodes = ast.walk(ast.parse(text))
    return [(ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]


def running(text):
    """Returns the calls in a module that run or import what they are given, but for constants."""
    return [
        name
        for name, call in calls(text)
        if (name in RUNNING or name.rpartition(".")[2] in RUNNING - {"compile", "eval"})
        and not all(isinstance(argument, ast.Constant) for argument in call.args)
    ]


def source(module):
    path = SOURCE.parent / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("holdfast", include_external_packages=True)


def test_no_module_imports_what_unpickles(graph):
    found = [
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.partition(".")[0] in UNPICKLING
    ]
    assert found == []
    assert "numpy" in graph.find_modules_directly_imported_by("holdfast.lifecycle.loading")


def ours(graph):
    return sorted(module for module in graph.modules if module.partition(".")[0] == "holdfast")


def test_no_module_runs_or_imports_by_a_name_from_data(graph):
    found = {module: names for module in ours(graph) if (names := running(source(module)))}
    # The public names are imported when they are asked for, from tables of their own.
    assert found == {
        "holdfast": ["importlib.import_module"] * 2,
        "holdfast.testing": ["import_module"],
    }


@pytest.mark.parametrize(
    "text", ["eval(x)", "exec(x)", "importlib.import_module(x)", "__import__(x)"]
)
def test_code_that_is_run_is_noticed(text):
    assert len(running(text)) == 1
    assert running("re.compile(x); model.eval(); importlib.import_module('json')") == []


def test_torch_files_are_read_in_one_place_and_never_with_their_code(graph):
    readers = [
        (module, call)
        for module in ours(graph)
        for name, call in calls(source(module))
        if name in {"torch.load", "numpy.load", "np.load"}
    ]
    assert [module for module, _ in readers] == [EXCHANGE]
    options = {k.arg: k.value for k in readers[0][1].keywords}
    assert ast.literal_eval(options["weights_only"]) is True
