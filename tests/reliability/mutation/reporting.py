"""What became of the mutants, as a table for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.reliability.mutation.ledger import Result
from tests.reliability.mutation.noticing import OF_THE_DISK
from tests.reliability.mutation.places import KINDS, Mutant

BEGIN: Final = "<!-- mutants:begin -->"
END: Final = "<!-- mutants:end -->"


def section(
    mutants: Sequence[Mutant], results: Mapping[str, Result], equivalent: Mapping[str, str]
) -> str:
    """Returns the section of the page, markers included.

    Args:
        mutants: All of them, in the order of the source.
        results: Name to what became of it, for those that were tried.
        equivalent: Name to why nothing can notice it.
    """
    counted = [mutant for mutant in mutants if mutant.name not in equivalent]
    tried = [mutant for mutant in counted if mutant.name in results]
    noticed = [mutant for mutant in tried if results[mutant.name].noticed_by]
    disk = [m for m in tried if m.kind in OF_THE_DISK and results[m.name].replay]
    by_disk = [m for m in disk if _found(results[m.name].replay) or _found(results[m.name].kills)]
    lines = [
        BEGIN,
        "",
        f"{len(mutants)} mutants, {len(noticed)} of {len(counted)} noticed"
        + (f" ({len(counted) - len(tried)} not tried)" if len(tried) < len(counted) else "")
        + f"; {len(mutants) - len(counted)} can make no difference and are named below.",
    ]
    if disk:
        lines.append(
            f"Of {len(disk)} that concern the disk, replayed power cuts and kills of one small "
            f"training notice {len(by_disk)} by themselves."
        )
    lines += ["", "| kind | what is taken out | mutants | noticed |", "|---|---|---|---|"]
    every, good = Counter(m.kind for m in counted), Counter(m.kind for m in noticed)
    lines += [
        f"| {kind} | {what} | {every[kind]} | {good[kind]} |"
        for kind, what in KINDS.items()
        if every[kind]
    ]
    lines += [
        "",
        "The last column: what replayed power cuts and kills of one training find by themselves.",
        "",
        "| place | kind | what was taken out | noticed by | power cuts, kills |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(mutant, results.get(mutant.name)) for mutant in counted]
    lines += ["", "What can make no difference:", ""]
    lines += [f"- {_code(name)}: {why}." for name, why in equivalent.items()]
    return "\n".join([*lines, "", END])


def written(page: str, text: str) -> str:
    """Returns a page with its section replaced, or with one at its end."""
    if BEGIN not in page:
        return f"{page.rstrip()}\n\n{text}\n" if page.strip() else f"{text}\n"
    before, _, rest = page.partition(BEGIN)
    return before + text + rest.partition(END)[2]


def write(path: Path, text: str) -> None:
    """Puts the section into a page; makes the page where there is none."""
    page = path.read_text(encoding="utf-8") if path.exists() else "# Reliability\n"
    path.write_text(written(page, text), encoding="utf-8")


def _row(mutant: Mutant, result: Result | None) -> str:
    by = "not tried" if result is None else result.noticed_by or "**nothing**"
    alone = ", ".join(filter(None, (result.replay, result.kills))) if result else ""
    place = f"`{mutant.path}` {mutant.function.rpartition('.')[2]}"
    what = mutant.was if mutant.kind == "order" else _code(_short(mutant.was))
    return f"| {place} | {mutant.kind} | {what} | {_test(by)} | {alone} |"


def _test(by: str) -> str:
    name = re.sub(r"^tests/", "", by).partition("[")[0]
    return name.replace("|", r"\|")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _code(text: str) -> str:
    return "`" + text.replace("|", r"\|").replace("`", "'") + "`"


def _found(count: str) -> bool:
    return bool(count) and not count.startswith("nothing")
