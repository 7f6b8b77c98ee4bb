"""Every failure is one line on standard error, what to do, and an exit code of its own."""

import json
import os
import signal
import subprocess
import sys

import pytest

import holdfast
from holdfast.cli.command import Settings, guarded
from tests.cli.conftest import in_process

WRONG = [
    (("ls", "digits-cn"), 3, "did you mean 'digits-cnn'?"),
    (("show", "digits-cnn@foo"), 2, "run@best:val_loss"),
    (("show", "nonsense"), 2, "is no reference"),
    (("show", "digits-cnn@step:999"), 3, "holdfast ls digits-cnn"),
    (("show", "digits-cnn@tag:none"), 3, "'none'"),
    (("ls", "--where", "loss <"), 2, "for example: loss < 0.3"),
    (("ls", "--order-by", ""), 2, ""),
    (("best", "digits-cnn", "los"), 2, "mode"),
    (("best", "digits-cnn", "loss"), 3, "val_loss"),
    (("history", "nope", "loss"), 3, "nope"),
    (("tag", "digits-cnn@latest", "bad tag"), 2, "cannot be a tag"),
    (("export", "digits-cnn@latest", "/"), 2, ""),
]


@pytest.mark.parametrize(("words", "code", "advice"), WRONG)
def test_a_mistake_is_named_with_what_to_do(ask, original, words, code, advice):
    answer = ask(original, *words)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("Error: ")
    assert advice in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(("words", "code", "advice"), WRONG)
def test_with_json_the_error_is_json_on_standard_error(ask, original, words, code, advice):
    answer = ask(original, "--json", *words)
    assert (answer.code, answer.out) == (code, "")
    error = json.loads(answer.err)
    assert error["exit_code"] == code
    assert advice in error["message"] + error["hint"]


def test_an_unknown_run_comes_with_the_nearest_as_data(ask, original):
    error = json.loads(ask(original, "ls", "digits-cn", "--json").err)
    assert (error["error"], error["nearest"]) == ("NotFoundError", ["digits-cnn"])


def test_verbose_shows_where_an_error_came_from(ask, original):
    answer = ask(original, "-v", "ls", "digits-cn")
    assert answer.code == 3
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1] == "did you mean 'digits-cnn'?"


def test_a_place_without_a_store_is_left_as_it_is(ask, tmp_path):
    for words in (("runs",), ("prune", "-y"), ("verify",), ("tag", "a@latest", "t"), ("reindex",)):
        answer = ask(tmp_path / "nowhere", *words)
        assert answer.code == 3, words
        assert "no store" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_store(ask, tmp_path):
    (tmp_path / "file").write_text("x")
    for words in (("runs",), ("reindex",)):
        answer = ask(tmp_path / "file", *words)
        assert answer.code == 2
        assert "is a file" in answer.err


def test_a_newer_format_is_refused(ask, tmp_path):
    from holdfast.engine.sealed import seal

    (tmp_path / "runs").mkdir()
    members = {"format": 2, "store_id": "0" * 32, "created_at": 0.0}
    (tmp_path / "holdfast.json").write_bytes(seal(members))
    for words in (("runs",), ("reindex",)):
        answer = ask(tmp_path, *words)
        assert (answer.code, answer.out) == (6, "")


def test_a_run_that_is_being_written_is_not_deleted(ask, root):
    with holdfast.open(root) as store, store.run("digits-cnn") as run:
        answer = ask(root, "delete", "digits-cnn", "-y")
        assert run.status == "running"
    assert answer.code == 4
    assert ask(root, "ls", "digits-cnn", "-q").out


def test_a_wrong_option_is_a_mistake_in_usage(ask, original):
    for words in (("ls", "--nope"), ("nope",), ("ls", "--limit", "0"), ("show",)):
        assert ask(original, *words).code == 2


def test_ctrl_c_is_130_and_quiet(capsys):
    def interrupted(_session):
        raise KeyboardInterrupt

    assert guarded(Settings(), interrupted) == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_in_a_real_process_is_130(original, tmp_path):
    # A pipe that nobody writes into holds the command where it would read the answer.
    reader, writer = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "-s", str(original), "prune", "--keep", "none()"],
        stdin=writer,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
    )
    while not process.stderr.read(1):
        pass
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate()
    os.close(reader)
    os.close(writer)
    assert process.returncode == 130
    assert b"Traceback" not in rest


def test_a_reader_that_goes_away_is_no_error(original, tmp_path):
    command = f"{sys.executable} -m holdfast -s {original} ls --json"
    answer = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1; echo ${{PIPESTATUS[0]}}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert answer.stderr == ""
    assert answer.stdout[0] == "["


def test_a_closed_pipe_ends_quietly_with_its_own_code(original, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [sys.executable, "-m", "holdfast", "-s", str(original), "ls"],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (141, b"")


def test_a_module_run_answers_like_the_command(original, tmp_path):
    answer = in_process("runs", "-q", cwd=tmp_path, HOLDFAST_STORE=str(original))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.split() == ["digits-cnn", "study/trial-7"]
    missing = in_process("ls", "digits-cn", cwd=tmp_path, HOLDFAST_STORE=str(original))
    assert (missing.code, missing.out) == (3, "")
