"""The rules of the house that no other tool checks: sizes, names, and no code from data."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 60
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base2", "stuff"}
UNPICKLING = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNNING = {"eval", "exec", "compile", "__import__"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Returns a function's length without its docstring, which is there for being read."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        text = node.body[0]
        length -= (text.end_lineno or text.lineno) - text.lineno + 1
    return length


def size_offences(text: str) -> list[str]:
    """Returns what is too long in a module."""
    offences = []
    length = len(text.splitlines())
    if length > FILE_LINES:
        offences.append(f"the file has {length} lines, {FILE_LINES} are allowed")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS) and function_lines(node) > FUNCTION_LINES:
            offences.append(f"line {node.lineno}: {node.name} has {function_lines(node)} lines")
    return offences


def loads_plain_values(call: ast.Call) -> bool:
    """Returns whether a call of torch.load is in the mode that runs nothing of the file."""
    return any(
        keyword.arg == "weights_only"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is True
        for keyword in call.keywords
    )


def loading_offences(text: str) -> list[str]:
    """Returns where a module could run code that came as data."""
    offences = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in UNPICKLING:
                offences.append(f"line {node.lineno}: imports {name}")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in RUNNING or (called == "torch.load" and not loads_plain_values(node)):
                offences.append(f"line {node.lineno}: calls {called}")
            for keyword in node.keywords:
                allows = not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
                if keyword.arg == "allow_pickle" and allows:
                    offences.append(f"line {node.lineno}: allows pickle")
    return offences


def swallowing_offences(text: str) -> list[str]:
    """Returns handlers that make an error of any kind disappear."""
    offences = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kind = "" if node.type is None else ast.unparse(node.type)
        silent = all(
            isinstance(line, ast.Pass | ast.Continue)
            or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            for line in node.body
        )
        if silent and kind in {"", "Exception", "BaseException", "HoldfastError"}:
            offences.append(f"line {node.lineno}: swallows {kind or 'everything'}")
    return offences


def name_offences(path: Path) -> list[str]:
    """Returns parts of a path that say nothing about what is in it."""
    words = {word for part in path.with_suffix("").parts for word in part.split("_")}
    return [f"{path}: {word!r} says nothing" for word in sorted(words & VAGUE)]


def test_torch_files_are_written_for_export_alone():
    writers = [path for path in SOURCES if "torch.save(" in path.read_text(encoding="utf-8")]
    assert [path.name for path in writers] == ["files.py"]


CHECKS = [size_offences, loading_offences, swallowing_offences]
BAD = [
    (size_offences, "x = 1\n" * 401),
    (size_offences, "def f():\n" + "    x = 1\n" * 60),
    (size_offences, "class A:\n    async def f(self):\n" + "        x = 1\n" * 60),
    (loading_offences, "import pickle"),
    (loading_offences, "def f():\n    from pickle import loads"),
    (loading_offences, "import marshal as m"),
    (loading_offences, "eval('1')"),
    (loading_offences, "exec(text)"),
    (loading_offences, "torch.load(path)"),
    (loading_offences, "torch.load(path, weights_only=trusted)"),
    (loading_offences, "np.load(path, allow_pickle=True)"),
    (loading_offences, "np.load(path, allow_pickle=trusted)"),
    (swallowing_offences, "try:\n    f()\nexcept Exception:\n    pass"),
    (swallowing_offences, "try:\n    f()\nexcept:\n    ..."),
]
GOOD = [
    (size_offences, "x = 1\n" * 400),
    (size_offences, 'def f():\n    """One.\n' + "    two\n" * 60 + '    """\n    return 1\n'),
    (loading_offences, "torch.load(path, weights_only=True)"),
    (loading_offences, "model.eval()\nnp.load(path, allow_pickle=False)\nre.compile('a')"),
    (swallowing_offences, "try:\n    f()\nexcept FileNotFoundError:\n    pass"),
    (swallowing_offences, "try:\n    f()\nexcept Exception:\n    log.exception('x')"),
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_source_file_keeps_the_rules(path):
    text = path.read_text(encoding="utf-8")
    offences = [offence for check in CHECKS for offence in check(text)]
    assert offences + name_offences(path.relative_to(ROOT)) == []


@pytest.mark.parametrize(("check", "text"), BAD)
def test_a_broken_rule_is_noticed(check, text):
    assert check(text) != []


@pytest.mark.parametrize(("check", "text"), GOOD)
def test_what_is_allowed_is_not_complained_about(check, text):
    assert check(text) == []


def test_a_vague_name_is_noticed():
    assert name_offences(Path("src/holdfast/engine/io_utils.py")) != []
    assert name_offences(Path("src/holdfast/engine/commit.py")) == []


def test_there_are_sources_to_check():
    assert ROOT / "src" / "holdfast" / "errors.py" in SOURCES
