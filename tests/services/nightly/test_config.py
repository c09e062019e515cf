"""What is no night."""

from datetime import UTC, datetime, timedelta

import pytest

from lungforge.config import digest, identity
from lungforge.errors import InputError
from services.nightly.config import NightlyConfig


@pytest.mark.parametrize("text", ["yesterday", "2026-02-30", "20260301", "2026-3-1", "2026-W09-7"])
def test_a_date_is_written_in_one_way(text: str) -> None:
    with pytest.raises(InputError, match=rf"--date is '{text}'; write it as YYYY-MM-DD"):
        NightlyConfig(store="s", date=text)


def test_a_night_has_come() -> None:
    today = datetime.now(UTC).date()
    assert NightlyConfig(store="s").night() - today in (timedelta(0), timedelta(1))  # midnight may pass
    assert NightlyConfig(store="s", date="2026-03-01").night().isoformat() == "2026-03-01"
    with pytest.raises(InputError, match="give a night that has come"):
        NightlyConfig(store="s", date=str(today + timedelta(3))).night()


def test_test_subsets_are_not_sampled_from() -> None:
    with pytest.raises(InputError, match="--subsets-of-maps and --test-subsets share 3 6;"):
        NightlyConfig(store="s", subsets_of_maps=(6, 3, 0), test_subsets=(3, 6, 9))
    with pytest.raises(InputError, match="--test-subsets is empty"):
        NightlyConfig(store="s", test_subsets=())


def test_nights_are_comparable_whenever_and_wherever_they_are_done() -> None:
    def settings(**changes: object) -> str:
        return digest(identity(NightlyConfig(store="s", **changes)))  # type: ignore[arg-type]

    same = settings(data="elsewhere", date="2026-03-01", workers=4, batch=2, gpus_per_worker=1)
    assert same == settings()
    for change in ({"count": 255}, {"seed": 1}, {"steps": 49}, {"test_subsets": (7, 8)}, {"guidance": 1.0}):
        assert settings(**change) != settings()
