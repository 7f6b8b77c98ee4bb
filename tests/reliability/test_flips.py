"""No silent corruption: damage of every kind to every file is found, and never loaded."""

import pytest

from holdfast.errors import IntegrityError
from holdfast.testing import flips, mirrorflips, soundness


def test_a_sample_of_flipped_bits_is_found(tmp_path, measured):
    assert measured(flips.flips(tmp_path, count=300, seed=1)).states == 300


@pytest.mark.sweeps
def test_ten_thousand_random_flips_are_found_and_none_is_loaded(tmp_path, measured):
    assert measured(flips.flips(tmp_path, count=10_000, seed=7)).states == 10_000


@pytest.mark.sweeps
def test_a_flipped_bit_in_every_region_of_every_file_is_found(tmp_path, stride, measured):
    outcome = measured(flips.regions(tmp_path, stride=stride(11)))
    assert outcome.kinds.keys() == {
        f"a flipped bit in {region}"
        for region in (
            "a holdfast.json",
            "a journal.jsonl",
            "a manifest.json",
            "an index",
            "a length",
            "a header",
            "padding",
            "a tensor",
        )
    }


@pytest.mark.sweeps
def test_cuts_extensions_and_zeroed_blocks_are_found(tmp_path, stride, measured):
    outcome = measured(flips.lengths(tmp_path, stride=stride(1)))
    assert outcome.kinds.keys() == {"a cut", "an extension", "a zeroed block", "a zeroed file"}


@pytest.mark.sweeps
def test_files_in_wrong_places_are_found(tmp_path, stride, measured):
    outcome = measured(flips.exchanges(tmp_path, stride=stride(3)))
    assert outcome.kinds.keys() >= {
        "a missing file",
        "a folder in the place of a file",
        "two files swapped",
        "a file over another",
        "a missing second name",
    }


def test_a_sample_of_flips_is_healed_from_a_mirror(tmp_path, measured):
    assert measured(mirrorflips.healings(tmp_path, count=240, seed=5)).states == 240


@pytest.mark.sweeps
def test_ten_thousand_flips_are_healed_from_a_mirror_to_the_bit(tmp_path, measured):
    outcome = measured(mirrorflips.healings(tmp_path, count=10_000, seed=5))
    assert outcome.states >= 9_990


def test_a_reader_that_checks_no_digest_is_noticed(tmp_path, monkeypatch):
    def verify_nothing(_self, **_options):
        return None

    monkeypatch.setattr(soundness.Checkpoint, "verify", verify_nothing)
    outcome = flips.flips(tmp_path, count=20, seed=3)
    assert outcome.violated, outcome


def test_an_error_that_is_none_of_ours_is_noticed(tmp_path, monkeypatch):
    real = soundness.Checkpoint.load

    def stumble(self, item, **options):
        try:
            return real(self, item, **options)
        except IntegrityError as error:
            raise KeyError(item) from error

    monkeypatch.setattr(soundness.Checkpoint, "load", stumble)
    outcome = flips.flips(tmp_path, count=20, seed=3)
    assert any("KeyError" in violation for violation in outcome.violations), outcome
