"""Hold the split: no group in two splits, growth moves nothing, shares come out, and the certificate sees leaks."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carspotter.dataset.certificate import certificate
from carspotter.dataset.split import SplitSettings, split
from carspotter.errors import DatasetError
from carspotter.records import SPLITS
from carspotter.settings import read_section

COLUMNS = ("photo_id", "ad_id", "class_name", "group_id", "kept")


def columns(rows):
    return {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}


def photos_of(n_ads, *, per_ad=4, classes=("Audi A4",), prefix="ad"):
    """Return ads of `per_ad` photos without any tie; the class follows the ad's number."""
    return [
        (f"{prefix}{ad}/{n}", f"{prefix}{ad}", classes[ad % len(classes)], None, None)
        for ad in range(n_ads)
        for n in range(per_ad)
    ]


def split_of_ads(samples):
    """Return the set of splits of each ad, of the samples that count."""
    found = {}
    for ad, name, status in zip(samples["ad_id"], samples["split"], samples["status"], strict=True):
        if status == "ok":
            found.setdefault(ad, set()).add(name)
    return found


def by_photo(samples, column):
    return dict(zip(samples["photo_id"], samples[column], strict=True))


def clean(photos, samples, near=None):
    """Return the certificate of samples from the raw columns of their photos."""
    ids = {"photo_id": photos["photo_id"]}
    return certificate(
        samples,
        ads=ids | {"ad_id": photos["ad_id"]},
        exact=ids | {"sha256": photos["group_id"]},
        near=near or ids | {"group_id": photos["group_id"]},
    )


@st.composite
def catalogues(draw):
    """Draw small catalogues full of ties: few ads, few duplicate groups, photos without class or group."""
    n_ads = draw(st.integers(1, 14))
    rows = []
    for ad in range(n_ads):
        for n in range(draw(st.integers(1, 4))):
            class_name = draw(st.sampled_from(["Audi A4", "BMW X5", "Lada 2109", None]))
            group = draw(st.sampled_from([None, None, *(f"d{k}" for k in range(8))]))
            rows.append((f"ad{ad}/{n}", f"ad{ad}", class_name, group, draw(st.booleans())))
    return rows


# ---- what always holds


@given(catalogues(), st.integers(0, 3))
def test_no_group_stands_in_two_splits(rows, seed):
    samples = split(columns(rows), settings=SplitSettings(seed=seed))
    assert set(samples["photo_id"]) == {row[0] for row in rows if row[2] is not None}
    assert "bridge" not in samples["status"]  # nothing stood anywhere before
    groups = {}
    for group, name, status in zip(samples["group_id"], samples["split"], samples["status"], strict=True):
        if status == "ok":
            groups.setdefault(group, set()).add(name)
            assert name in SPLITS
    assert all(len(names) == 1 for names in groups.values())
    assert clean(columns(rows), samples).check().is_clean


@given(catalogues())
def test_of_copies_one_is_the_sample(rows):
    samples = by_photo(split(columns(rows)), "status")
    copies = {}
    for photo_id, _, class_name, group, kept in rows:
        if class_name is not None and group is not None:
            copies.setdefault(group, []).append((samples[photo_id], kept))
    for found in copies.values():
        assert [status for status, _ in found].count("ok") == 1
        assert ("ok", True) in found or not any(kept for _, kept in found)


@given(catalogues(), st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(rows, shuffled):
    other = list(rows)
    shuffled.shuffle(other)
    assert split(columns(other)) == split(columns(rows))


@given(catalogues(), st.integers(0, 14), st.booleans())
def test_growth_moves_nothing_and_leaks_nothing(rows, n_before, with_unused):
    """The ads that come later bring ties to earlier ones, also ones that bridge two splits."""
    before = [row for row in rows if int(row[1][2:]) < n_before]
    first = split(columns(before))
    second = split(columns(rows), previous=first)
    earlier, later = by_photo(first, "split"), by_photo(second, "split")
    status = by_photo(second, "status")
    for ad, names in split_of_ads(first).items():
        photos = [row[0] for row in rows if row[1] == ad and status.get(row[0]) == "ok"]
        assert {later[photo] for photo in photos} <= names
    kept = [photo for photo, name in earlier.items() if name and status[photo] == "ok"]
    assert all(later[photo] == earlier[photo] for photo in kept)
    assert clean(columns(rows), second).check().is_clean
    assert split(columns(rows), previous=second)["split"] == second["split"]  # and a third build changes nothing


@given(catalogues(), catalogues())
def test_a_new_opinion_on_duplicates_moves_nothing_either(before, rows):
    """The same ads get other duplicate groups: two ads that stood apart may now share a photo."""
    first = split(columns(before))
    second = split(columns(rows), previous=first)
    apart = split_of_ads(first)
    for ad, names in split_of_ads(second).items():
        assert names == apart.get(ad, names)
    assert clean(columns(rows), second).check().is_clean


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 5))
def test_each_class_stands_in_train_and_with_three_groups_everywhere(sizes, seed):
    rows = [(f"ad{ad}/{n}", f"ad{ad}", "Audi A4", None, None) for ad, size in enumerate(sizes) for n in range(size)]
    found = set(split(columns(rows), settings=SplitSettings(seed=seed))["split"])
    assert found == set(SPLITS) if len(sizes) >= 3 else "train" in found


def test_shares_come_out_for_each_class_of_a_large_input():
    generator = random.Random(1)
    classes = [f"class {k}" for k in range(20)]
    rows = [
        (f"ad{ad}/{n}", f"ad{ad}", class_name, None, None)
        for ad in range(4000)
        for class_name in [classes[min(int(generator.expovariate(0.25)), 19)]]
        for n in range(generator.randint(1, 9))
    ]
    samples = split(columns(rows))
    counts = {}
    for class_name, name in zip(samples["class_name"], samples["split"], strict=True):
        counts.setdefault(class_name, dict.fromkeys(SPLITS, 0))[name] += 1
    for found in counts.values():
        total = sum(found.values())
        for name, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
            # ads have up to nine photos, of several classes here: a split may miss its share by about one ad
            assert abs(found[name] - share * total) <= max(0.01 * total, 9)


def test_another_seed_gives_another_split():
    rows = columns(photos_of(40))
    assert split(rows, settings=SplitSettings(seed=1))["split"] != split(rows, settings=SplitSettings(seed=2))["split"]


# ---- ties


def tied(rows, *pairs):
    """Return rows in which the first photos of two ads are copies of each other."""
    groups = {}
    for one, two in pairs:
        groups.setdefault(f"{one}/0", f"{one}-{two}")
        groups.setdefault(f"{two}/0", f"{one}-{two}")
    return [(*row[:3], groups.get(row[0], row[3]), row[4]) for row in rows]


def ads_in(samples, name):
    return sorted(ad for ad, names in split_of_ads(samples).items() if names == {name})


def test_an_unused_photo_ties_its_ads():
    rows = photos_of(30)
    rows += [("ad3/x", "ad3", None, "seat", True), ("ad17/x", "ad17", None, "seat", False)]
    samples = split(columns(rows))
    assert by_photo(samples, "group_id")["ad3/0"] == by_photo(samples, "group_id")["ad17/0"]
    assert split_of_ads(samples)["ad3"] == split_of_ads(samples)["ad17"]


def test_copies_that_do_not_tie_their_ads_are_one_sample():
    rows = [*photos_of(30, per_ad=1), *((f"ad{ad}/x", f"ad{ad}", "Audi A4", "banner", ad == 17) for ad in range(30))]
    photos = columns(rows) | {"tying": [not row[0].endswith("x") for row in rows]}
    samples = split(photos)
    assert [photo for photo, status in by_photo(samples, "status").items() if status == "ok" and "x" in photo] == [
        "ad17/x"
    ]
    assert {frozenset(names) for names in split_of_ads(samples).values()} == {frozenset({name}) for name in SPLITS}


def test_a_new_ad_follows_the_ad_it_copies():
    rows = photos_of(30)
    first = split(columns(rows))
    old = ads_in(first, "test")[0]
    rows += [("new/0", "new", "Audi A4", "copy", False), ("new/1", "new", "Audi A4", None, None)]
    rows = [(*row[:3], "copy", True) if row[0] == f"{old}/0" else row for row in rows]
    second = split(columns(rows), previous=first)
    assert by_photo(second, "split")["new/1"] == "test"
    assert by_photo(second, "status")["new/0"] == "duplicate"
    assert by_photo(second, "message")["new/0"] == f"a copy of {old}/0"


def test_a_new_ad_that_ties_two_splits_is_left_out():
    rows = photos_of(30)
    first = split(columns(rows))
    one, two = ads_in(first, "train")[0], ads_in(first, "test")[0]
    rows += [("new/0", "new", "Audi A4", "a", False), ("new/1", "new", "Audi A4", "b", False)]
    marks = {f"{one}/0": "a", f"{two}/0": "b"}
    rows = [(*row[:3], marks.get(row[0], row[3]), row[4]) for row in rows]
    second = split(columns(rows), previous=first)
    for photo in ("new/0", "new/1"):
        assert by_photo(second, "status")[photo] == "bridge"
        assert by_photo(second, "split")[photo] is None
    assert "tie two splits" in by_photo(second, "message")["new/0"]
    assert by_photo(second, "status")[f"{one}/0"] == "ok"  # its copy is left out, so it stays the sample
    assert split_of_ads(second) == split_of_ads(first)


def test_of_two_old_ads_that_turn_out_to_be_one_the_one_in_test_stays():
    rows = photos_of(30)
    first = split(columns(rows))
    one, two = ads_in(first, "train")[0], ads_in(first, "test")[0]
    rows = [(*row[:3], "same", None) if row[0] in (f"{one}/0", f"{two}/0") else row for row in rows]
    second = split(columns(rows), previous=first)
    assert {by_photo(second, "status")[f"{one}/{n}"] for n in range(4)} == {"bridge"}
    assert by_photo(second, "split")[f"{one}/1"] == "train"  # remembered, so that it can never turn up in test
    assert by_photo(second, "status")[f"{two}/0"] == "ok"


def test_other_columns_can_tie_too():
    rows = columns(photos_of(30))
    rows["sha256"] = [None] * 120
    rows["sha256"][rows["photo_id"].index("ad1/1")] = rows["sha256"][rows["photo_id"].index("ad2/1")] = "ab"
    samples = split(rows, ties=("group_id", "sha256"))
    assert by_photo(samples, "group_id")["ad2/0"] == by_photo(samples, "group_id")["ad1/0"]


def test_null_columns_may_be_masked_as_a_catalogue_gives_them():
    rows = columns(photos_of(30))
    masked = np.ma.masked_array(["seat"] * 120, mask=[not photo.endswith("/0") for photo in rows["photo_id"]])
    samples = split(rows | {"group_id": masked, "photo_id": np.array(rows["photo_id"])})
    assert samples["status"].count("duplicate") == 29
    assert set(samples["group_id"]) == {"ad0"}


def test_nothing_usable_gives_no_rows():
    assert split(columns([]))["photo_id"] == []
    assert split(columns([("a/0", "a", None, "d", True)]))["photo_id"] == []


# ---- bad input


def test_columns_are_checked():
    with pytest.raises(DatasetError, match=r"column 'group_id' is missing; it needs photo_id, ad_id, class_name"):
        split({"photo_id": [], "ad_id": [], "class_name": []})
    with pytest.raises(DatasetError, match=r"columns differ in length: .*'ad_id': 0"):
        split({"photo_id": ["a/0"], "ad_id": [], "class_name": ["x"], "group_id": [None]})
    with pytest.raises(DatasetError, match=r"photo 'a/0' is given twice"):
        split(columns([("a/0", "a", "x", None, None)] * 2))


def test_the_last_samples_are_checked():
    rows = columns(photos_of(2))
    with pytest.raises(DatasetError, match=r"ad 'ad0' in train and in test"):
        split(rows, previous={"photo_id": [], "ad_id": ["ad0", "ad0"], "split": ["test", "train"]})
    with pytest.raises(DatasetError, match=r"name a split 'val'; allowed: train, validation, test"):
        split(rows, previous={"photo_id": [], "ad_id": ["ad0"], "split": ["val"]})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"trian": 0.7}, r"unknown key 'trian'; did you mean 'train'\?"),
        ({"train": 0.8}, r"add up to 1.1; they must add up to 1"),
        ({"train": -0.7, "test": 1.55}, r"train is -0.7; it must lie in 0..1"),
        ({"train": 0, "test": 0.85}, r"train is 0; it must be more"),
    ],
)
def test_settings_are_checked(section, message):
    with pytest.raises(DatasetError, match=message):
        read_section(SplitSettings, section, where="[split]", error=DatasetError)


def test_a_split_of_share_0_stays_empty():
    samples = split(columns(photos_of(20)), settings=SplitSettings(train=0.8, validation=0.2, test=0))
    assert set(samples["split"]) == {"train", "validation"}


# ---- the certificate


@pytest.fixture(scope="module")
def leakless():
    """Thirty ads, split; `photos` has digests and hashes of their own for each photo."""
    photos = columns(photos_of(30))
    generator = np.random.default_rng(5)
    photos["sha256"] = [f"{n:064x}" for n in range(120)]
    photos["phash"] = generator.integers(0, 2**64, 120, dtype=np.uint64, endpoint=False)
    return photos, split(photos)


def certify(photos, samples, distance=0, **changes):
    facts = {name: list(photos[name]) for name in ("ad_id", "sha256", "phash")}
    for name, (one, two, value) in changes.items():
        facts[name][photos["photo_id"].index(two)] = value(facts[name][photos["photo_id"].index(one)])
    ads, exact, near = ({"photo_id": photos["photo_id"], name: facts[name]} for name in facts)
    return certificate(samples, ads=ads, exact=exact, near=near, distance=distance)


def across(samples):
    """Return one photo in train and one in test."""
    return [f"{ads_in(samples, name)[0]}/1" for name in ("train", "test")]


def test_a_clean_split_says_so(leakless):
    text = (
        "leak certificate: 0 ads, 0 exact, 0 near-duplicates across train / validation / test (120 photos, 30 groups)"
    )
    assert str(certify(*leakless).check()) == text
    assert certify(*leakless, distance=3).is_clean


def test_a_planted_ad_is_found(leakless):
    photos, samples = leakless
    one, _ = across(samples)
    moved = samples | {"split": ["test" if p == one else s for p, s in by_photo(samples, "split").items()]}
    found = certify(photos, moved)
    assert (found.ads, found.exact, found.near) == (1, 0, 0)
    with pytest.raises(DatasetError, match=rf"1 ads, 0 exact.*: ad {one.split('/')[0]} in test and train; it must be"):
        found.check()


def test_a_planted_exact_copy_is_found(leakless):
    photos, samples = leakless
    one, two = across(samples)
    found = certify(photos, samples, sha256=(one, two, lambda value: value))
    assert (found.ads, found.exact, found.near) == (0, 1, 0)
    with pytest.raises(DatasetError, match=r"exact 0{60}\w{4} in test and train"):
        found.check()


@pytest.mark.parametrize("bits", [0, 1, (1 << 63) | (1 << 31) | 1])
def test_a_planted_near_copy_is_found(leakless, bits):
    photos, samples = leakless
    one, two = across(samples)
    distance = bits.bit_count()
    found = certify(photos, samples, distance=distance, phash=(one, two, lambda value: value ^ np.uint64(bits)))
    assert (found.ads, found.exact, found.near) == (0, 0, 1)
    if distance:
        assert certify(photos, samples, distance - 1, phash=(one, two, lambda v: v ^ np.uint64(bits))).is_clean
    with pytest.raises(DatasetError, match=r"near .* in (test and train|train and test)"):
        found.check()


def test_a_photo_that_is_no_sample_still_ties_its_ad(leakless):
    photos, samples = leakless
    one, two = across(samples)
    more = {name: [*photos[name]] for name in ("photo_id", "ad_id", "sha256", "phash")}
    for ad in (one.split("/")[0], two.split("/")[0]):
        for name, value in zip(more, (f"{ad}/seat", ad, "seat", None), strict=True):
            more[name].append(value)
    assert certify(more, samples).exact == 1


def test_a_sample_without_an_ad_is_an_error(leakless):
    _, samples = leakless
    with pytest.raises(DatasetError, match=r"photo 'ad0/0' has no ad; give `ads` of all samples"):
        certificate(
            samples,
            ads={"photo_id": ["b"], "ad_id": ["b"]},
            exact={"photo_id": [], "sha256": []},
            near={"photo_id": [], "phash": []},
        )


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2)), max_size=12), st.integers(0, 3), st.data())
def test_near_pairs_are_those_of_a_plain_comparison(hashes, distance, data):
    for value, _ in list(hashes[:4]):  # neighbours of what was drawn, else nothing would ever be near
        flips = data.draw(st.lists(st.integers(0, 63), max_size=4))
        hashes.append((value ^ sum(1 << bit for bit in set(flips)), data.draw(st.integers(0, 2))))
    ids = [f"a{n}/0" for n in range(len(hashes))]
    samples = {"photo_id": ids, "split": [SPLITS[number] for _, number in hashes]}
    ads = {"photo_id": ids, "ad_id": [f"a{n}" for n in range(len(hashes))]}
    none = {"photo_id": [], "sha256": []}
    near = {"photo_id": ids, "phash": np.array([value for value, _ in hashes], np.uint64)}
    found = certificate(samples, ads=ads, exact=none, near=near, distance=distance)
    rows = sorted(set(hashes))
    pairs = [(a, b) for at, a in enumerate(rows) for b in rows[at + 1 :]]
    plain = [(a, b) for a, b in pairs if a[1] != b[1] and (a[0] ^ b[0]).bit_count() <= distance]
    if distance:
        assert found.near == len(plain)
    else:
        assert found.near == len({a[0] for a, _ in plain})


@pytest.mark.slow
def test_a_million_photos_are_split_cleanly():
    generator = np.random.default_rng(0)
    ads = np.repeat(np.arange(125_000), 8)
    ids = [f"ad{ad:06d}/{n % 8}" for n, ad in enumerate(ads.tolist())]
    groups = [f"d{k}" if k < 100_000 else None for k in generator.integers(0, 1_000_000, len(ids)).tolist()]
    class_of = (generator.pareto(1.0, 125_000) * 10).astype(int) % 500
    photos = {
        "photo_id": ids,
        "ad_id": [f"ad{ad:06d}" for ad in ads.tolist()],
        "group_id": groups,
        "class_name": [f"class {k}" for k in class_of[ads].tolist()],
    }
    samples = split(photos)
    assert clean(photos, samples).check().is_clean


def test_the_given_part_is_kept():
    photos = {
        "photo_id": [f"p{number:02}" for number in range(40)],
        "ad_id": [f"a{number // 2:02}" for number in range(40)],
        "class_name": ["A"] * 40,
        "group_id": [None] * 40,
        "given": ["train"] * 20 + ["test"] * 10 + [None] * 10,
    }
    photos["given"][1] = "test"  # an ad in two parts
    photos["group_id"][2] = photos["group_id"][20] = "same"  # a picture in two parts
    samples = split(photos)
    where, status = by_photo(samples, "split"), by_photo(samples, "status")
    assert [status[name] for name in ("p00", "p01", "p02", "p03", "p20")] == ["bridge", "ok", "bridge", "bridge", "ok"]
    given = dict(zip(photos["photo_id"], photos["given"], strict=True))
    assert all(where[name] == part for name, part in given.items() if part and status[name] == "ok")
    assert {where[f"p{number}"] for number in range(30, 40)} == {"train", "validation"}
    assert clean(photos, samples).is_clean
    assert split(photos, previous=samples)["split"] == samples["split"]
    anew = split(photos, settings=SplitSettings(split="new"))
    assert by_photo(anew, "status")["p00"] == "ok"
    with pytest.raises(DatasetError, match="no photo is given a part"):
        split(photos | {"given": [None] * 40}, settings=SplitSettings(split="given"))
    with pytest.raises(ValueError, match="split is 'official'"):
        SplitSettings(split="official")
