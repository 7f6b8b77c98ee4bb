"""The project's own files agree with each other: versions, extras, the map of the house."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
BUILD_FILES = ["pyproject.toml", "constraints.txt", "Makefile", ".pre-commit-config.yaml"]
BUILD_FILES += [f".ci/{path.name}" for path in sorted((ROOT / ".ci").iterdir())]
MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ELSEWHERE = re.compile(r"://|index-url|find-links|trusted-host| @ ")


def requirements() -> list[Requirement]:
    """Returns what the project asks for, extras included, but for its own extras."""
    extras = PROJECT["optional-dependencies"].values()
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    return [one for one in map(Requirement, texts) if one.name != PROJECT["name"]]


@pytest.mark.parametrize("line", PINS)
def test_a_constraint_names_one_version(line):
    assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)


def test_no_package_is_pinned_twice():
    names = [canonicalize_name(line.partition("==")[0]) for line in PINS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(requirement):
    pins = {
        canonicalize_name(name): version for name, _, version in (p.partition("==") for p in PINS)
    }
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_no_framework_comes_with_the_plain_install():
    names = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert names == {"blake3", "numpy", "rich", "sqlalchemy", "typer"}


@pytest.mark.parametrize("name", BUILD_FILES)
def test_where_packages_come_from_is_left_to_the_machine(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if ELSEWHERE.search(line)] == []


def test_the_map_of_the_house_shows_every_room_and_no_other():
    package = ROOT / "src" / "holdfast"
    rooms = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    rooms |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    shown = set(re.findall(r"^\| `src/holdfast/([\w.]+/?)`", MAP, re.MULTILINE))
    assert shown == rooms


def test_every_file_that_the_map_names_is_there():
    named = re.findall(r"`((?:src|tests|docs|bench|examples|\.ci|\.github)/[\w./-]*)`", MAP)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_version_is_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in text


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in folder.glob("[0-9]*.md")]
    assert pages
    assert [name for name in pages if f"({name})" not in index] == []
