"""Keys and rates by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.errors import StorageError
from carspotter.serving.keys import PREFIX, Rates, add_key, digest_of, read_keys
from carspotter.serving.settings import ServeSettings


def test_a_key_is_found_and_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first, second = add_key(file, "shop-1"), add_key(file, "shop.2")
    assert first.startswith(PREFIX)
    assert len(first) > 40
    assert first not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    keys = read_keys(file)
    assert [getattr(keys.find(key), "name", None) for key in (first, second, "", first + "x", first[:-1])] == [
        "shop-1",
        "shop.2",
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "a#b"])
def test_a_name_that_the_file_cannot_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        add_key(tmp_path / "keys", name)


def test_a_name_twice(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "shop")
    with pytest.raises(ValueError, match="already"):
        add_key(tmp_path / "keys", "shop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shop secret", "line 1: expected NAME SHA256"),
        ("# nobody\n\n", "holds no key"),
        ("a b c d", "line 1"),
        (f"a {'0' * 64} rate=fast", "line 1"),
    ],
)
def test_a_file_that_is_none(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(StorageError, match=message):
        read_keys(tmp_path / "keys")
    with pytest.raises(StorageError, match="cannot be read"):
        read_keys(tmp_path / "nothing")


def test_an_empty_file_takes_a_first_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# nobody yet\n")
    key = add_key(tmp_path / "keys", "shop")
    assert read_keys(tmp_path / "keys").find(key)


def test_comments_and_rates_are_read(tmp_path: Path) -> None:
    text = f"# ours,\u2028of\x85old\r\nshop {digest_of('k')} rate=2.5 # the large one\n"  # only \n ends a line
    (tmp_path / "keys").write_text(text, encoding="utf-8", newline="")
    entry = read_keys(tmp_path / "keys").find("k")
    assert entry is not None
    assert (entry.name, entry.rate) == ("shop", 2.5)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), max_size=60))
def test_no_client_ever_passes_more_than_its_rate(steps: list[tuple[float, int]]) -> None:
    now, passed, start = 0.0, 0, 0.0
    rates = Rates(rate=3.0, burst=lambda _: 5, clock=lambda: now)
    for pause_s, photos in steps:
        now += pause_s
        wait_s = rates.take("a", photos)
        if wait_s == 0:
            passed += photos
        else:
            now += wait_s
            assert rates.take("a", photos) == 0  # who waits as told may pass
            passed += photos
        assert passed <= 5 + 3.0 * (now - start) + 1e-6


def test_clients_have_buckets_of_their_own_and_no_rate_is_no_limit() -> None:
    rates = Rates(rate=1.0, burst=lambda _: 1, clock=lambda: 0.0)
    assert rates.take("a", 1) == 0
    assert rates.take("b", 1) == 0
    assert rates.take("a", 1) == pytest.approx(1)
    assert rates.take("a", 10, rate=0) == 0


def test_a_slow_key_waits_whoever_else_asks() -> None:
    now = 0.0
    rates = Rates(rate=0.001, burst=lambda _: 1, clock=lambda: now)
    assert rates.take("slow", 1) == 0
    for number in range(10_001):  # so many that full buckets are looked for
        assert rates.take(f"address {number}", 1) == 0
    now = 1.0
    assert rates.take("fast", 1, rate=1000.0) == 0
    assert rates.take("slow", 1) == pytest.approx(999)


def test_a_burst_is_four_seconds_of_the_keys_own_rate_and_an_ad_at_least() -> None:
    rates = Rates(rate=0.0, burst=ServeSettings().burst_of, clock=lambda: 0.0)
    assert rates.take("fast", 400, rate=100.0) == 0
    assert rates.take("fast", 1, rate=100.0) > 0
    assert rates.take("slow", 40, rate=1.0) == 0
    assert rates.take("slow", 1, rate=1.0) > 0
