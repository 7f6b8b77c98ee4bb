"""A look at many folders at once."""

import os

from holdfast.storage import LocalStorage, survey


def test_each_folder_is_told_with_the_length_of_its_file_and_its_time(tmp_path):
    storage = LocalStorage(tmp_path)
    for name, length in (("b", 7), ("a", 0), ("c+d", None)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        if length is not None:
            (folder / "journal").write_bytes(b"x" * length)
        os.utime(folder, ns=(1, 1_000_000_007))
    found = survey(storage, "runs", "journal")
    assert list(found.items()) == [
        ("a", (0, 1_000_000_007)),
        ("b", (7, 1_000_000_007)),
        ("c+d", (0, 1_000_000_007)),
    ]


def test_what_is_no_folder_is_left_out(tmp_path):
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "file").write_text("x")
    (tmp_path / "runs" / "link").symlink_to(outside / "x")
    (tmp_path / "runs" / "real").mkdir()
    # A folder in the place of the file has no length that could be meant.
    (tmp_path / "runs" / "real" / "file" / "journal").mkdir(parents=True)
    storage = LocalStorage(tmp_path)
    assert list(survey(storage, "runs", "journal")) == ["real"]
    assert survey(storage, "runs", "file/journal/x")["real"][0] == 0


def test_a_place_that_is_not_there_has_no_folders(tmp_path):
    storage = LocalStorage(tmp_path)
    (tmp_path / "file").write_text("x")
    assert survey(storage, "nowhere", "journal") == {}
    assert survey(storage, "file", "journal") == {}
