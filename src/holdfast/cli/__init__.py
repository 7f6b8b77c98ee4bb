"""The command line: ``holdfast``, or ``python -m holdfast``."""

from __future__ import annotations


def main() -> None:
    """Runs the command line on the process's arguments and exits with its code."""
    # Nothing but this function is loaded by `import holdfast.cli`: a terminal toolkit is heavy.
    from holdfast.cli.app import app

    app(prog_name="holdfast")
