"""Ages, dates and rates, as people write them."""

import pytest

from holdfast.errors import ConfigError
from holdfast.policy.ages import moment_of, rate_of

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("30m", 1800),
        ("30 min", 1800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("1.5D", 129_600),
        ("2w", 1_209_600),
        (90, 90),
        (0, 0),
        (0.5, 0.5),
    ],
)
def test_an_age_lies_so_far_back(written, seconds):
    assert moment_of(written, now=NOW, asker="since") == NOW - seconds


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-01-31", 1_769_817_600.0),
        ("20260131", 1_769_817_600.0),
        ("2026-01-31T12:00", 1_769_860_800.0),
        ("2026-01-31T12:00:00+02:00", 1_769_853_600.0),
    ],
)
def test_a_date_is_in_utc_where_it_does_not_say_otherwise(written, moment):
    assert moment_of(written, now=NOW, asker="since") == moment


@pytest.mark.parametrize(
    "written", ["", "7", "d", "7y", "-7d", "yesterday", -1, float("nan"), True, "2099-01-01"]
)
def test_what_is_no_age_and_no_date_is_refused_by_name(written):
    with pytest.raises(ConfigError, match="since"):
        moment_of(written, now=NOW, asker="since")


@pytest.mark.parametrize(
    ("written", "nbytes_per_s"),
    [("50MB/s", 50e6), ("1MiB/s", 2**20), (" 200 kB/s ", 2e5), ("50MB", 50e6), (1000, 1000.0)],
)
def test_a_rate_is_bytes_per_second(written, nbytes_per_s):
    assert rate_of(written, asker="rate") == nbytes_per_s


@pytest.mark.parametrize("written", ["", "fast", "50", "MB/s", "50MB/h", 0, -1, float("inf")])
def test_what_is_no_rate_is_refused_by_name(written):
    with pytest.raises(ConfigError, match="rate"):
        rate_of(written, asker="rate")
