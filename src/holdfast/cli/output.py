"""What goes to the terminal, a pipe, or a program: tables, facts, JSON, progress, questions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from holdfast.cli.formatting import json_text, printable
from holdfast.cli.frames import Column, Frame, Words
from holdfast.errors import ConfigError

#: What a progress bar counts.
Unit = Literal["bytes", "runs", "checkpoints"]

__all__ = ["Column", "Output", "Unit"]

_GAP = 2
#: What stands in for "as wide as the text is" where nothing limits the width.
_BOUNDLESS = 100_000
_READABLE = 24


class Output:
    """Where a command writes.

    Args:
        as_json: Nothing but one JSON document goes to standard output.
        quiet: Nothing but what was asked for: names and ids, one per line.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        # What reads a pipe wants whole lines, however long.
        boundless = None if sys.stdout.isatty() else _BOUNDLESS
        self._out = Console(highlight=False, width=boundless)
        self._err = Console(stderr=True, highlight=False)

    @property
    def to_terminal(self) -> bool:
        """Whether somebody looks at standard output."""
        return self._out.is_terminal

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        return self._out.size.width, self._out.size.height

    @property
    def shows_progress(self) -> bool:
        """Whether `progress` draws a bar."""
        return self._err.is_terminal and not self.quiet

    @property
    def width(self) -> int:
        """Columns of the terminal; 100 where there is none."""
        return self._out.width if self.to_terminal else 100

    def data(self, value: object) -> None:
        """Writes one JSON document."""
        sys.stdout.write(json_text(value, indent=2) + "\n")

    def lines(self, texts: Iterable[str], *, style: str = "") -> None:
        """Writes lines on standard output, broken between words where the terminal ends."""
        for text in texts:
            self._print(Text(printable(text), style=style))

    def code(self, texts: Iterable[str]) -> None:
        """Writes lines that are there to be copied: never broken, whatever the width."""
        for text in texts:
            self._out.print(Text(printable(text)), soft_wrap=True)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Writes names and values in two columns; empty values are left out."""
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            if value:
                table.add_row(Text(printable(name)), Text(printable(value)))
        self._print(table)

    def heading(self, text: str) -> None:
        """Writes the heading of a part, with an empty line before it."""
        self._print(Text())
        self._print(Text(printable(text), style="bold"))

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Writes a table.

        On a terminal, columns that do not fit give way by their rank, and a note says which.
        Elsewhere every cell stands in full.

        Args:
            columns: The columns.
            rows: One text per column each.
        """
        table, left = self._grid(columns, rows)
        self._print(table)
        if left:
            self.note(f"No room for {', '.join(left)}: a wider terminal or --json has them.")

    def frame(self, frame: Frame) -> None:
        """Writes a frame once."""
        for part in self._parts(frame):
            self._print(part)

    @contextmanager
    def screen(self) -> Iterator[Callable[[Frame], None]]:
        """Shows frames on the terminal, each in the place of the one before; the last one stays.

        Yields:
            What to call with a frame.
        """
        from rich.console import Group
        from rich.live import Live

        with Live(console=self._out, auto_refresh=False, vertical_overflow="crop") as live:
            yield lambda frame: live.update(Group(*self._parts(frame)), refresh=True)

    def event(self, value: object) -> None:
        """Writes one line of JSON, at once: whoever reads it is waiting for it."""
        sys.stdout.write(json_text(value) + "\n")
        sys.stdout.flush()

    def _parts(self, frame: Frame) -> Iterator[Table | Text]:
        for part in frame.parts:
            if isinstance(part, Words):
                # Cut where the line ends: a frame has so many lines, whatever a store says.
                fits = part.whole or not self.to_terminal
                yield Text(
                    printable(part.text),
                    style=part.style,
                    no_wrap=not fits,
                    overflow="fold" if fits else "ellipsis",
                )
            else:
                yield self._grid(part.columns, part.rows)[0]

    def _grid(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str]]
    ) -> tuple[Table, list[str]]:
        """Returns a table that fits, and the titles of the columns that gave way."""
        cells = [[printable(cell) for cell in row] for row in rows]
        # A column in which no row says anything is no news.
        said = [i for i, c in enumerate(columns) if not c.rank or any(row[i] for row in cells)]
        shown, fits = self._fitting(said, columns, cells) if self.to_terminal else (said, True)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for column in (columns[i] for i in shown):
            table.add_column(
                Text(printable(column.title)),
                justify="right" if column.right else "left",
                style=column.style,
                # Half an id is none: where nothing else can give way, it goes on in a second line.
                no_wrap=fits and not column.wraps,
                overflow="fold",
            )
        for row in cells:
            table.add_row(*(Text(row[i]) for i in shown))
        return table, [columns[i].title for i in said if i not in shown]

    def note(self, text: str) -> None:
        """Tells people something besides the answer, on standard error."""
        if not self.quiet and not self.as_json:
            self._err.print(Text(printable(text), style="dim"))

    def done(self, text: str, *, style: str = "") -> None:
        """Says what was done, on standard output; says nothing when quiet or to a program."""
        if not self.quiet and not self.as_json:
            self.lines([text], style=style)

    def error(self, message: str, *, hint: str = "") -> None:
        """Writes what went wrong and what to do, on standard error."""
        line = Text("Error: ", style="bold red").append(
            printable(message, lines=True), style="not bold red"
        )
        self._err.print(line, soft_wrap=True)
        if hint:
            self._err.print(Text(printable(hint, lines=True)), soft_wrap=True)

    def error_data(self, value: object) -> None:
        """Writes an error as JSON, on standard error."""
        sys.stderr.write(json_text(value) + "\n")

    def confirm(self, question: str) -> bool:
        """Asks on standard error and returns whether the answer was yes.

        Raises:
            ConfigError: Nobody is there to answer.
        """
        if self.as_json or not sys.stdin.isatty():
            raise ConfigError(
                "this would change the store, and there is nobody to ask",
                hint="look at it with `holdfast plan`, then pass --yes",
            )
        answer = self._err.input(Text(f"{printable(question)} [y/N] ", style="bold"))
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def progress(
        self,
        title: str,
        *,
        total: int | None,
        unit: Literal["bytes", "runs", "checkpoints"] = "bytes",
    ) -> Iterator[Callable[[int], None]]:
        """Shows a bar on standard error while a block runs; yields what to call with amounts.

        Args:
            title: What is under way.
            total: The amount at the end; None where nobody knows it.
            unit: What is counted.
        """
        if not self.shows_progress:
            yield _ignore
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description}"),)
        if total is None:
            columns = (SpinnerColumn(), *columns)
        else:
            amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
            columns = (*columns, BarColumn(), amount, TimeRemainingColumn())
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda advance: bar.advance(task, advance)

    @contextmanager
    def counted(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Shows a bar of which the end becomes known on the way.

        Args:
            title: What is under way.

        Yields:
            What to call with how much is done and how much there is going to be.
        """
        if self.quiet or not self._err.is_terminal:
            yield lambda done, total: None
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self._err, transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _fitting(
        self, said: Sequence[int], columns: Sequence[Column], rows: Sequence[Sequence[str]]
    ) -> tuple[list[int], bool]:
        """Returns which columns are shown, and whether they fit without a cell being broken."""
        shown = list(said)
        widths = {
            i: max(map(cell_len, (printable(columns[i].title), *(row[i] for row in rows))))
            for i in said
        }
        least = {i: min(w, _READABLE) if columns[i].wraps else w for i, w in widths.items()}

        def fits() -> bool:
            return sum(least[i] + _GAP for i in shown) - _GAP <= self._out.width

        while not fits() and any(columns[i].rank for i in shown):
            shown.remove(max(shown, key=lambda i: (columns[i].rank, i)))
        return shown, fits()

    def _print(self, what: Table | Text) -> None:
        if self.to_terminal:
            self._out.print(what)
            return
        with self._out.capture() as captured:
            self._out.print(what)
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _ignore(_: int) -> None:
    pass
