"""The parts of the benchmark that its figures rest on."""

import json
import os
from dataclasses import replace

import pytest

from bench import files, report, targets
from bench.measure import Samples, SkippedError, interleave
from bench.phases import Clock, Seam
from bench.results import Report, Table, Verdict


class Way:
    limit = False

    def __init__(self, name, log, *, fails_at=None):
        self.name, self._log, self._fails_at = name, log, fails_at
        self._calls = 0

    def check(self):
        self._log.append(f"check {self.name}")

    def once(self):
        self._calls += 1
        if self._calls == self._fails_at:
            raise ValueError("out of paper")
        self._log.append(self.name)
        return {"durable": float(self._calls)}

    def close(self):
        self._log.append(f"close {self.name}")


def test_ways_take_turns_and_the_check_does_not_count():
    log = []
    taken = interleave({name: lambda name=name: Way(name, log) for name in "ab"}, repeats=2)
    assert log == ["check a", "check b", "a", "b", "a", "b", "close a", "close b"]
    assert [way.values for way in taken["durable"]] == [(1.0, 2.0)] * 2


def test_a_way_that_fails_says_why_and_the_others_go_on():
    def absent():
        raise SkippedError("not installed: that")

    makers = {
        "absent": absent,
        "failing": lambda: Way("failing", [], fails_at=2),
        "fine": lambda: Way("fine", []),
    }
    absent_way, failing, fine = interleave(makers, repeats=3)["durable"]
    assert (absent_way.values, absent_way.error) == ((), "not installed: that")
    assert (failing.values, failing.error) == ((1.0,), "failed: ValueError: out of paper")
    assert (fine.values, fine.error) == ((1.0, 2.0, 3.0), "")


def test_a_file_that_stays_in_the_cache_is_not_called_cold(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    assert files.cached_share([path]) == 1.0
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: None)
    with pytest.raises(RuntimeError, match="100% of its bytes stayed in the page cache"):
        files.evict([path])


@pytest.mark.parametrize("nbytes", [1, 4096, 5000, (32 << 20) + 7])
def test_raw_writes_and_reads_move_every_byte(tmp_path, nbytes):
    data = files.touched(nbytes)
    data[:] = range(1, 2) if nbytes == 1 else 3
    data[-1] = 9
    files.write_direct(tmp_path / "direct", data)
    files.write_buffered(tmp_path / "buffered", data)
    for name in ("direct", "buffered"):
        assert (tmp_path / name).read_bytes() == data.tobytes()
        target = files.touched(nbytes)
        files.raw_reader(tmp_path / name, target, threads=2)()
        assert target.tobytes() == data.tobytes()


def test_a_file_of_two_names_counts_once(tmp_path):
    (tmp_path / "one").write_bytes(bytes(100))
    os.link(tmp_path / "one", tmp_path / "two")
    assert files.bytes_below(tmp_path) == 100


def samples(name, value, *, limit=False):
    return Samples(name, limit=limit, values=(value,))


def durable(ours, raw, peer):
    made = (
        samples("raw O_DIRECT write + fsync", raw, limit=True),
        samples("holdfast", ours),
        samples("holdfast, with clean-up", ours / 2),
        samples("torch.save + fsync", peer),
    )
    return Table("durable", "save", "ms", made, nbytes=2**30, tensors=200)


@pytest.mark.parametrize(
    ("ours", "raw", "peer", "met"),
    [
        (100.0, 95.0, 125.0, [True, None, True]),
        (100.0, 94.0, 126.0, [False, None, True]),
        (100.0, 99.0, 124.0, [True, None, False]),
    ],
)
def test_targets_of_a_save_compare_speeds_with_the_disk_and_the_best_peer(ours, raw, peer, met):
    assert [one.met for one in targets.durable(durable(ours, raw, peer))] == met


def test_what_a_save_takes_behind_the_training_has_a_target_of_its_own():
    table = durable(110.0, 95.0, 140.0)
    behind = samples("holdfast, from when training goes on", 100.0)
    table = replace(table, ways=(*table.ways, behind))
    assert [one.met for one in targets.durable(table)] == [False, True, True]


def test_a_target_of_what_was_not_measured_is_not_met_and_not_missed():
    empty = Table("durable", "save", "ms", (), nbytes=2**30)
    assert [(one.found, one.met) for one in targets.durable(empty)] == [("", None)] * 3


def test_a_report_survives_json():
    table = Table("step", "t", "µs", (samples("a", 1.5),), (Verdict("t", "f", met=True),))
    made = Report({"date": "today"}, (table,))
    assert Report.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_writing_keeps_all_of_the_page_but_what_is_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    table = Table("step", "steps", "µs", (samples("a | b", 1.5),), (Verdict("2", "1.5", met=True),))
    for _ in range(2):
        report.write(Report({"date": "today"}, (table,)), page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("| a \\| b | 1.5 |") == 1
    assert "| steps | 2 | 1.5 | met |" in text


def test_a_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.write(Report({}, ()), page)


def test_the_page_of_the_project_has_its_markers(tmp_path):
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs/performance.md").read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_time_of_a_phase_inside_another_is_counted_once(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("bench.phases.time.perf_counter", lambda: next(now))
    clock = Clock()
    inner = clock.timed(Seam("inner", ""), lambda: None)
    clock.timed(Seam("outer", ""), inner)()
    assert clock.seconds == {"inner": 1, "outer": 2}
    clock.timed(Seam("all", "", whole=True), inner)()
    assert clock.seconds == {"inner": 1, "outer": 2, "all": 1}
