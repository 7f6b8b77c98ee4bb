"""A power cut at any call loses no checkpoint that was promised, on ext4 and on xfs."""

import os
from pathlib import Path

import pytest

from holdfast.storage.faults import FaultyPosix
from holdfast.testing import loopdisk, powercut
from holdfast.testing.scenarios import SCENARIOS
from holdfast.testing.training import Training

FILESYSTEMS = pytest.mark.parametrize("filesystem", powercut.FILESYSTEMS)
#: What is done to a store beside training, and every how many of its calls the power is cut.
UPKEEP = {
    "prune": 8, "delete": 8, "repair": 4, "reindex": 1, "reindex, catalog lost": 1,
    "recovery": 24, "late words": 3, "import": 4, "mirror": 8, "heal": 8,
}  # fmt: skip
SIZES = pytest.mark.parametrize("changing", [64, 1 << 17], ids=["small", "large"])


class WithoutSync(FaultyPosix):
    """A medium that makes no file durable."""

    def fsync(self, fd):
        pass


class WithoutFolderSync(FaultyPosix):
    """A medium that makes no name durable."""

    def fsync_folder(self, path):
        pass


@FILESYSTEMS
def test_a_power_cut_at_the_moment_of_a_promise_loses_nothing(tmp_path, measured, filesystem):
    outcome = powercut.cuts(Training(losses=[2.0, 1.0]), tmp_path, filesystem=filesystem, calls=())
    measured(outcome)
    assert outcome.kinds == {"promise, synced": 2, "promise, logged": 2}


@pytest.mark.sweeps
@FILESYSTEMS
@SIZES
def test_a_power_cut_at_any_call_loses_nothing(tmp_path, measured, stride, filesystem, changing):
    outcome = powercut.cuts(Training(changing), tmp_path, filesystem=filesystem, stride=stride(6))
    measured(outcome)
    assert outcome.states >= 60
    met = {kind.partition(",")[0] for kind in outcome.kinds}
    for call in ("write", "pwrite", "fsync", "fsync_folder", "rename", "link", "unlink", "promise"):
        if call not in met:
            # The sample left it out: threads do not make their calls in the same order every time.
            folder = tmp_path / call
            folder.mkdir()
            alone = powercut.cuts(
                Training(changing), folder, filesystem=filesystem, stride=1000, calls=(call,)
            )
            met.update(kind.partition(",")[0] for kind in measured(alone).kinds)
        assert call in met, outcome


@pytest.mark.sweeps
@FILESYSTEMS
@pytest.mark.parametrize(("name", "quick"), UPKEEP.items(), ids=UPKEEP.keys())
def test_a_power_cut_while_looking_after_a_store_loses_nothing(
    tmp_path, measured, stride, filesystem, name, quick
):
    outcome = powercut.cuts(
        SCENARIOS[name](), tmp_path, filesystem=filesystem, stride=stride(quick)
    )
    measured(outcome)
    assert outcome.states >= 5


@pytest.mark.sweeps
@FILESYSTEMS
def test_a_power_cut_while_recovering_from_one_loses_nothing(
    tmp_path, measured, stride, filesystem
):
    outcome = powercut.cuts_while_recovering(
        Training(losses=[3.0, 1.0, 2.0]),
        tmp_path,
        filesystem=filesystem,
        stride=stride(90, 7),
        second=stride(9, 5),
    )
    measured(outcome)
    assert outcome.states >= 20


@FILESYSTEMS
@pytest.mark.parametrize("medium", [WithoutSync, WithoutFolderSync])
def test_a_power_cut_is_felt_where_a_sync_is_left_out(tmp_path, filesystem, medium):
    outcome = powercut.cuts(
        Training(losses=[1.0]), tmp_path, filesystem=filesystem, calls=(), medium=medium
    )
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.violated >= 1, outcome
    assert "power cut at" in outcome.violations[0]


@FILESYSTEMS
def test_a_cut_keeps_what_was_synced_and_loses_the_rest(tmp_path, filesystem):
    reason = loopdisk.missing_for(filesystem, tmp_path)
    if reason:
        pytest.skip(reason)
    with loopdisk.LoopDisk(tmp_path, filesystem) as disk:
        left = {how: after_a_cut(disk, how) for how in ("synced", "logged")}
    assert left == {
        "synced": {"before": 8, "kept": 8},
        # Its name was in the log, its bytes were not.
        "logged": {"before": 8, "kept": 8, "renamed": 0},
    }
    assert list(tmp_path.iterdir()) == []


def after_a_cut(disk, how):
    """Writes, syncs some of it, cuts the power; returns name to length of what is there then."""
    root = disk.mount_point
    for path in root.glob("*"):
        if path.is_file():
            path.unlink()
    (root / "before").write_bytes(b"8 bytes.")
    disk.sync()
    with (root / "kept").open("wb") as file:
        file.write(b"8 bytes.")
        file.flush()
        os.fsync(file.fileno())
    (root / "lost").write_bytes(b"8 bytes.")
    (root / "lost").rename(root / "renamed")
    disk.cut(how)
    disk.unmount()
    disk.mount()
    return {path.name: path.stat().st_size for path in root.iterdir() if path.is_file()}


def test_nothing_is_left_when_a_sweep_is_left_in_the_middle(tmp_path):
    reason = loopdisk.missing_for("ext4", tmp_path)
    if reason:
        pytest.skip(reason)
    before = loop_devices(), mounts()

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        powercut.cuts(Training(losses=[1.0]), tmp_path, stride=60, progress=interrupt)
    assert (loop_devices(), mounts()) == before


def loop_devices():
    """Returns the loop devices of a power-cut sweep."""
    names = (path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [name for name in names if "deleted" in name]


def mounts():
    """Returns what is mounted of a power-cut sweep."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "holdfast-" in line]
