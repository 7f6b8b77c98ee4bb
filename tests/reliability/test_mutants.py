"""The tool that takes protections out finds them all, and the tests notice some of them."""

import ast
import io
import re
import tokenize
from collections import Counter

import pytest
from coverage import CoverageData

from tests.reliability.mutants import PROJECT, every_mutant, main, selected
from tests.reliability.mutation import reporting
from tests.reliability.mutation.chosen import CHOSEN, EQUIVALENT, Chosen
from tests.reliability.mutation.covering import Covering, in_lots
from tests.reliability.mutation.ledger import Ledger, Result
from tests.reliability.mutation.places import KINDS, of_file

PACKAGE = PROJECT / "src" / "holdfast"
EVERY = every_mutant()
#: Fewer than these, and the search has gone blind for something.
AT_LEAST = {
    "sync": 24, "durable": 20, "write loop": 4, "rename": 6, "temporary": 3, "mode": 2,
    "exclusive": 12, "digest": 18, "length": 40, "recheck": 30, "lock": 6, "order": 10,
}  # fmt: skip
SYNCS = re.compile(r"^_?(fsync|fdatasync|fsync_folder|sync_folder|sync)$")
#: Instruments of the proof, which pass calls on, and the tools that make no promise.
ELSEWHERE = ("testing/", "storage/faults.py", "storage/recording.py")


def test_every_kind_of_protection_is_found():
    found = Counter(mutant.kind for mutant in EVERY)
    assert AT_LEAST.keys() == KINDS.keys()
    assert {kind: found[kind] for kind in KINDS if found[kind] < AT_LEAST[kind]} == {}


def test_every_mutant_has_a_name_of_its_own_and_is_a_program():
    assert len({mutant.name for mutant in EVERY}) == len(EVERY)
    for mutant in EVERY:
        before = (PACKAGE / mutant.path).read_bytes()
        after = mutant.applied(before)
        assert after != before, mutant.name
        ast.parse(after)


def test_every_call_that_syncs_is_a_mutant():
    covered = {
        path: [(m.start, m.end) for m in EVERY if m.path == path]
        for path in {m.path for m in EVERY}
    }
    missed = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).as_posix()
        if not relative.startswith(ELSEWHERE):
            spans = covered.get(relative, [])
            missed += [f"{relative}: {line}" for line in unmutated_syncs(path.read_bytes(), spans)]
    assert missed == []


def unmutated_syncs(data, spans):
    """Returns the lines of calls that sync something and lie in none of some spans."""
    lines = [0]
    for line in data.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    tokens = list(tokenize.tokenize(io.BytesIO(data).readline))
    found = []
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        called = SYNCS.match(token.string) and after.string == "(" and before.string != "def"
        at = lines[token.start[0] - 1] + token.start[1]
        if called and not any(start <= at < end for start, end in spans):
            found.append(token.line.strip())
    return found


def test_a_sync_that_no_mutant_takes_out_is_noticed():
    assert unmutated_syncs(b"def fsync(): ...\nos.fsync(fd)\n", []) == ["os.fsync(fd)"]
    assert unmutated_syncs(b"os.fsync(fd)\n", [(0, 12)]) == []


FOUND = [
    ("os.fsync(fd)", "sync", "pass"),
    ("done = storage.sync_folder(folder)", "sync", "done = True"),
    ("place.append(line, durable=True)", "durable", "place.append(line, durable=False)"),
    ("storage.make_folder(path)", "durable", "storage.make_folder(path, durable=False)"),
    ("posix.rename(a, b)", "rename", "pass"),
    ("os.fchmod(fd, mode)", "mode", "pass"),
    ("flags = os.O_RDWR | os.O_EXCL", "exclusive", "flags = os.O_RDWR | 0"),
    ("same = blake3(data).hexdigest() == wanted", "digest", "same = True"),
    ("if digest.hexdigest() != wanted:\n    raise Wrong", "digest", "if False:\n    raise Wrong"),
    ("if length != expected:\n    raise Wrong", "length", "if False:\n    raise Wrong"),
    ("if not 0 <= begin < size:\n    raise Wrong", "length", "if not True:\n    raise Wrong"),
    ("if count == 0:\n    raise Wrong", "length", "if False:\n    raise Wrong"),
    ("if storage.link_count(path) != 1:\n    return", "recheck", "if False:\n    return"),
    ("if key in history.pinned:\n    return", "recheck", "if False:\n    return"),
    ("lock.acquire(timeout_s=0)", "lock", "pass"),
    (
        "while left:\n    left = left[os.write(fd, left) :]",
        "write loop",
        "for _once in range(bool(left)):\n    left = left[os.write(fd, left) :]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "mutated"), FOUND)
def test_a_protection_is_found_and_taken_out(text, kind, mutated):
    found = [mutant for mutant in of_file("a.py", text.encode()) if mutant.kind == kind]
    assert [mutant.applied(text.encode()).decode() for mutant in found] == [mutated]


@pytest.mark.parametrize(
    "text", ["if len(items) > 3:\n    print(items)", "storage.publish(path, parts, durable=False)"]
)
def test_what_protects_nothing_is_no_mutant(text):
    assert of_file("a.py", text.encode()) == []


def test_what_changes_places_by_hand_is_said_when_the_source_reads_otherwise():
    stale = Chosen("engine/commit.py", "commit", "order", "never", ["no such statement"])
    with pytest.raises(LookupError, match="does not read any more"):
        stale.mutant(PACKAGE)
    assert len(CHOSEN) >= 10


def test_the_list_of_what_makes_no_difference_is_short_and_true():
    names = {mutant.name for mutant in EVERY}
    assert EQUIVALENT.keys() <= names
    assert len(EQUIVALENT) <= 8
    assert all(EQUIVALENT.values())


def test_a_second_start_goes_on_where_the_first_ended(tmp_path):
    ledger = Ledger(tmp_path, "tree")
    ledger.add(Result("a: sync: b", "tests/a.py::test_b", 1.0, ("tests/c.py::test_d",)))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"tree": "tr')
    again = Ledger(tmp_path, "tree")
    assert again.result("a: sync: b") == ledger.result("a: sync: b")
    other = Ledger(tmp_path, "another tree")
    assert other.result("a: sync: b") is None
    assert other.hint("a: sync: b") == "tests/a.py::test_b"


def test_the_table_says_of_each_mutant_what_noticed_it():
    one, two = EVERY[0], EVERY[1]
    results = {
        one.name: Result(one.name, "tests/a/test_b.py::test_c[d]", 1.0),
        two.name: Result(two.name, "", 1.0),
    }
    text = reporting.section([one, two], results, {})
    assert "2 mutants, 1 of 2 noticed" in text
    assert "| a/test_b.py::test_c |" in text
    assert "**nothing**" in text


def test_the_section_of_a_page_is_replaced_and_the_rest_stays():
    text = f"{reporting.BEGIN}\nnew\n{reporting.END}"
    page = f"# Page\n\n{reporting.BEGIN}\nold\n{reporting.END}\n\nMore.\n"
    assert reporting.written(page, text) == f"# Page\n\n{text}\n\nMore.\n"
    assert reporting.written("# Page\n", text) == f"# Page\n\n{text}\n"


NOTICED = "storage/local.py LocalStorage._write_durably: sync*"


@pytest.mark.sweeps
def test_the_tests_notice_a_sync_and_a_digest_that_are_gone(tmp_path, record_property, capsys):
    patterns = [NOTICED, "engine/sealed.py unseal: digest*"]
    names = [mutant.name for mutant in selected(EVERY, patterns)]
    assert len(names) == len(patterns)
    for pattern in patterns:
        assert (
            main(["--only", pattern, "--jobs", "1", "--no-alone", "--results", str(tmp_path)]) == 0
        )
    assert capsys.readouterr().out.count("1 of 1 noticed") == len(patterns)
    record_property("measured", f"mutants of the source: {len(EVERY)} states; {len(names)} tried")


@pytest.mark.sweeps
def test_a_mutant_that_makes_no_difference_is_not_taken_for_noticed(tmp_path, monkeypatch):
    from tests.reliability.mutation import noticing

    only = noticing.Stage(("tests/storage/test_survey.py",))
    monkeypatch.setattr(noticing, "stages", lambda *_, **__: iter([only]))
    survivors = main(["--only", NOTICED, "--jobs", "1", "--no-alone", "--results", str(tmp_path)])
    assert survivors == 1


def test_only_tests_that_ran_a_line_are_asked_about_it_the_nearest_first(tmp_path):
    data = CoverageData(basename=tmp_path / "coverage")
    ran = {
        "tests.storage.test_draft.test_a": [1, 2],
        "tests.engine.test_commit.test_b": [2, 3],
        "holdfast.testing.conformance.StorageConformance.test_c": [3],
        "somewhere.else": [2],
        "": [1, 2, 3],
    }
    for context, lines in ran.items():
        data.set_context(context)
        data.add_lines({str(PACKAGE / "storage" / "draft.py"): lines})
    data.write()
    covering = Covering(tmp_path / "coverage", PROJECT)
    assert covering.tests("storage/draft.py", [1]) == ["tests/storage/test_draft.py::test_a"]
    both = covering.tests("storage/draft.py", [2, 3])
    assert both == [
        "tests/engine/test_commit.py::test_b",
        "tests/storage/test_conformance.py",
        "tests/storage/test_draft.py::test_a",
    ]
    assert covering.tests("storage/draft.py", [4]) == []
    assert in_lots(both, "tests/storage") == [(*both[1:], both[0])]
