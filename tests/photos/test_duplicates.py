"""Duplicates: every pair within a radius, and the groups that pairs and bytes make."""

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carspotter.errors import ImageError
from carspotter.hashes import count_bits
from carspotter.photos.checks import CheckSettings, check
from carspotter.photos.duplicates import DuplicateSettings, find_duplicates
from carspotter.photos.near import pairs_within
from carspotter.pixels import decode
from photo_drawings import copies, jpeg, picture


def flipped(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), st.lists(st.integers(0, 63), max_size=14)),
        max_size=30,
    ),
    st.integers(0, 12),
)
def test_pairs_are_those_of_brute_force(words: list[tuple[int, list[int]]], radius: int) -> None:
    hashes = np.array([flipped(value, bits) for value, bits in words], dtype=np.uint64)
    pairs, distances = pairs_within(hashes, radius)
    apart = count_bits(hashes[:, None] ^ hashes[None, :])
    _, first = np.unique(hashes, return_index=True)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if apart[i, j] <= radius and (i in first if apart[i, j] == 0 else (i in first and j in first))
    }
    assert set(map(tuple, pairs.tolist())) == expected
    assert distances.tolist() == [int(apart[i, j]) for i, j in pairs]


@pytest.mark.parametrize("radius", [1, 2, 3, 6, 7, 10, 15])
def test_no_pair_of_many_is_missed_whichever_band_it_agrees_in(radius: int) -> None:
    """Enough hashes for real bands, a crowd of more than one block, and pairs whose bits fall as badly as they can."""
    random = np.random.default_rng(0)
    spread = random.integers(1 << 64, size=2200, dtype=np.uint64)
    crowd = spread[0] ^ np.unique(random.integers(1 << 9, size=700, dtype=np.uint64))
    # The bits of a pair dealt out to the four bands in turn, from each band on.
    masks = [sum(1 << (16 * ((start + bit) % 4) + bit) for bit in range(radius + 1)) for start in range(4)]
    masks += [mask & (mask - 1) for mask in masks]
    planted = spread[: len(masks)] ^ np.array(masks, np.uint64)
    hashes = np.unique(np.concatenate([spread, crowd, planted]))
    apart = np.triu(count_bits(hashes[:, None] ^ hashes[None, :]) <= radius, k=1)
    pairs, _ = pairs_within(hashes, radius)
    assert pairs.tolist() == np.argwhere(apart).tolist()
    assert len(pairs) > 4


def test_a_radius_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match=r"radius is 16; it must be from 0 to 15"):
        pairs_within(np.zeros(1, np.uint64), 16)


def columns(photos: list[tuple[str, str, bytes]]) -> dict[str, list]:
    """Check photos given as (photo_id, ad_id, bytes) and return their columns."""
    rows = [{"photo_id": name, "ad_id": ad, **checked(data)} for name, ad, data in photos]
    names = ("photo_id", "ad_id", "sha256", "phash", "dhash", "width", "height", "contrast", "sharpness")
    return {name: [row.get(name) for row in rows] for name in names}


def checked(data: bytes) -> dict:
    try:
        return check(data, decode(data, min_side=200), CheckSettings())
    except ImageError:
        return {"sha256": sha256(data).hexdigest()}


def planted() -> list[tuple[str, str, bytes]]:
    """Twenty pictures of ten ads, copies of the first seven in other ads, and two broken files of the same bytes."""
    photos = [(f"{seed // 2}/{seed:02}", str(seed // 2), jpeg(picture(seed))) for seed in range(20)]
    for number, (name, data) in enumerate(copies(picture(0)).items()):
        photos.append((f"{100 + number}/{name}", str(100 + number), data))
    return [*photos, ("200/a", "200", b"broken"), ("201/a", "201", b"broken")]


def test_planted_copies_are_found_and_nothing_else() -> None:
    rows = find_duplicates(columns(planted()))
    groups = {row["group_id"]: {r["photo_id"] for r in rows if r["group_id"] == row["group_id"]} for row in rows}
    assert sorted(groups) == ["0/00", "200/a"]
    assert groups["0/00"] == {"0/00", *(f"{100 + number}/{name}" for number, name in enumerate(copies(picture(0))))}
    assert groups["200/a"] == {"200/a", "201/a"}
    assert {row["relation"] for row in rows if row["group_id"] == "200/a"} == {"exact"}
    assert all(row["across_ads"] for row in rows)


def test_the_largest_copy_is_kept() -> None:
    rows = find_duplicates(columns(planted()))
    assert [row["photo_id"] for row in rows if row["kept"]] == ["102/double", "200/a"]
    assert all(row["distance"] == 0 for row in rows if row["kept"] and row["group_id"] == "0/00")


@settings(max_examples=max(settings().max_examples // 4, 5))  # an example is a whole search
@given(st.permutations(range(29)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    table = columns(planted())
    shuffled = {name: [values[i] for i in order] for name, values in table.items()}
    assert find_duplicates(shuffled) == find_duplicates(table)


def far(bits: int) -> dict[str, list]:
    """Two photos whose perceptual hashes differ by so many bits, and whose difference hashes do not agree."""
    return {
        "photo_id": ["a/1", "b/1"],
        "ad_id": ["a", "b"],
        "sha256": ["x", "y"],
        "phash": [0, (1 << bits) - 1],
        "dhash": [0, 2**64 - 1],
        "width": [10, 10],
        "height": [10, 10],
        "contrast": [0.5, 0.5],
        "sharpness": [1.0, 2.0],
    }


def test_hashes_that_differ_more_need_a_witness() -> None:
    def alike(ids: list[str]) -> tuple[list[str], np.ndarray]:
        return ids[::-1], np.array([[1, 0], [0.995, 0.1]], np.float16)

    def other(ids: list[str]) -> tuple[list[str], np.ndarray]:
        return ids, np.array([[1, 0], [0, 1]], np.float16)

    def one(ids: list[str]) -> tuple[list[str], np.ndarray]:
        return ids[:1], np.array([[1, 0]], np.float16)

    assert len(find_duplicates(far(3))) == 2
    assert find_duplicates(far(4)) == []
    assert find_duplicates(far(6)) == []
    assert find_duplicates(far(6), embeddings=other) == []
    assert len(find_duplicates(far(6), embeddings=alike)) == 2
    assert find_duplicates(far(6), embeddings=one) == [], "a photo without an embedding is like none"
    assert find_duplicates(far(11), embeddings=alike) == []
    assert len(find_duplicates({**far(6), "dhash": [0, 3]})) == 2
    assert find_duplicates({**far(6), "dhash": [0, 2**11 - 1]}) == []


def test_plain_pictures_are_compared_by_bytes_alone() -> None:
    plain = {**far(0), "contrast": [0.01, 0.01], "dhash": [0, 0]}
    assert find_duplicates(plain) == []
    assert len(find_duplicates({**plain, "sha256": ["x", "x"]})) == 2


def test_no_photos_have_no_duplicates() -> None:
    assert find_duplicates({name: [] for name in far(0)}) == []


@pytest.mark.parametrize(("name", "value"), [("same", 16), ("max_distance", -1), ("cosine", 1.5)])
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        DuplicateSettings(**{name: value})
