"""The tests can fail: each one asserts something, and none is skipped without saying why."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ASSERTING_CALLS = {"pytest.raises", "pytest.warns", "pytest.fail", "raises", "warns", "fail"}
#: The last two are a browser's: what never comes to be so is a failure.
CHECKER_PREFIXES = (
    "assert_", "check_", "expect_", "run_state_machine_as_test",
    "wait_for_selector", "wait_for_function",
)  # fmt: skip
SKIPS = {"skip", "skipif", "xfail"}


def called_names(node: ast.AST) -> set[str]:
    """Returns what is called in a function, as it is written (``pytest.raises``, ``check_all``)."""
    return {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}


def asserts_itself(node: ast.AST) -> bool:
    """Whether a function holds an assertion, or calls what by its name is one."""
    if any(isinstance(inner, ast.Assert) for inner in ast.walk(node)):
        return True
    return any(
        name in ASSERTING_CALLS or name.rpartition(".")[2].startswith(CHECKER_PREFIXES)
        for name in called_names(node)
    )


def toothless(text: str) -> list[str]:
    """Returns the test functions without an assertion, in them or in a function that they call."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS)]
    asserting = {node.name for node in functions if asserts_itself(node)}
    while True:
        more = {
            node.name
            for node in functions
            if node.name not in asserting
            and {name.rpartition(".")[2] for name in called_names(node)} & asserting
        }
        if not more:
            break
        asserting |= more
    tests = [node for node in functions if node.name.startswith("test_")]
    return [f"line {node.lineno}: {node.name}" for node in tests if node.name not in asserting]


def silent_skips(text: str) -> list[str]:
    """Returns skips and expected failures that give no reason."""
    tree = ast.parse(text)
    offences = []
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and node.attr in SKIPS):
            continue
        owner = ast.unparse(node.value)
        if owner not in {"pytest", "pytest.mark", "mark"}:
            continue
        call = called.get(id(node))
        reasons = [] if call is None else [key for key in call.keywords if key.arg == "reason"]
        if call is not None and call.args and (owner == "pytest" or node.attr == "skip"):
            reasons = call.args
        if not reasons:
            offences.append(f"line {node.lineno}: {owner}.{node.attr}")
    return offences


CANNOT_FAIL = [
    "def test_a():\n    run()",
    "class TestA:\n    def test_a(self):\n        run()",
    "def build():\n    return 1\ndef test_a():\n    build()",
    "async def test_a():\n    await run()",
]
CAN_FAIL = [
    "def test_a():\n    assert run()",
    "def test_a():\n    with pytest.raises(ValueError):\n        run()",
    "def test_a():\n    assert_same(1, 1)",
    "def test_a(page):\n    page.wait_for_selector('text=saved')",
    "def outer():\n    inner()\ndef inner():\n    assert run()\ndef test_a():\n    outer()",
]
SILENT = [
    "@pytest.mark.skip\ndef test_a(): ...",
    "@pytest.mark.skip()\ndef test_a(): ...",
    "@pytest.mark.skipif(True)\ndef test_a(): ...",
    "@pytest.mark.xfail\ndef test_a(): ...",
    "def test_a():\n    pytest.skip()",
]
SPOKEN = [
    "@pytest.mark.skip(reason='no disk')\ndef test_a(): ...",
    "@pytest.mark.skip('no disk')\ndef test_a(): ...",
    "@pytest.mark.skipif(True, reason='no disk')\ndef test_a(): ...",
    "def test_a():\n    pytest.skip('no disk')",
    "rows.skip(1)",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_every_test_can_fail_and_every_skip_speaks(path):
    text = path.read_text(encoding="utf-8")
    assert toothless(text) == []
    assert silent_skips(text) == []


@pytest.mark.parametrize("text", CANNOT_FAIL)
def test_a_test_without_an_assertion_is_noticed(text):
    assert len(toothless(text)) == 1


@pytest.mark.parametrize("text", CAN_FAIL)
def test_an_assertion_is_seen_where_it_stands(text):
    assert toothless(text) == []


@pytest.mark.parametrize("text", SILENT)
def test_a_silent_skip_is_noticed(text):
    assert len(silent_skips(text)) == 1


@pytest.mark.parametrize("text", SPOKEN)
def test_a_skip_with_a_reason_is_fine(text):
    assert silent_skips(text) == []
