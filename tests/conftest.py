"""What all tests share: numbers that a test measured are shown at the end, whoever ran it."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests passed to ``record_property("measured", ...)``, from any worker.

    Not below failures: whoever sees one looks for what it says, at the end of a long log.
    """
    if terminalreporter.getreports("failed") or terminalreporter.getreports("error"):
        return
    lines = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "measured"
    ]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
