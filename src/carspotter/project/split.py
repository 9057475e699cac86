"""The step split: deal photos out to train, validation and test, and certify that nothing leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from carspotter.catalog.tables import OK
from carspotter.dataset.certificate import MAX_DISTANCE, LeakCertificate, certificate
from carspotter.dataset.columns import texts
from carspotter.dataset.split import SplitSettings, split
from carspotter.project.build import Build
from carspotter.project.classes import USABLE
from carspotter.project.deduplicate import AGAIN
from carspotter.project.folder import Project
from carspotter.project.resolve import curated_sources
from carspotter.records import SPLITS

CROWD = 20
"""Ads that show one picture from which on it is a dealer's banner or a catalogue picture: it ties no ads to each other,
or a large dealer's whole stock would be one group. One copy of it at most is a sample."""

TYING = f"""SELECT c.photo_id, c.sha256, c.phash, c.contrast FROM checks c
JOIN files f USING (photo_id) WHERE f.status = 'ok' AND c.width IS NOT NULL AND c.status <> 'placeholder'
AND c.photo_id NOT IN (
  SELECT photo_id FROM duplicates WHERE group_id IN (
    SELECT d.group_id FROM duplicates d JOIN listing_photos p USING (photo_id)
    GROUP BY d.group_id HAVING count(DISTINCT p.ad_id) >= {CROWD}))"""
"""Photos whose copies tie ads: also dark and blurred ones, but no placeholders, error pages and banners."""

SPLIT_READS = f"""SELECT p.photo_id, p.ad_id, d.group_id, t.photo_id IS NOT NULL AS tying,
coalesce(d.kept, true) AS kept, k.class_name, p.split AS given
FROM listing_photos p LEFT JOIN duplicates d USING (photo_id) LEFT JOIN ({TYING}) t ON t.photo_id = p.photo_id
LEFT JOIN ({USABLE}) u ON u.photo_id = p.photo_id
LEFT JOIN (SELECT taxon, class_name FROM classes WHERE status IN ('ok', 'merged')) k ON k.taxon = u.taxon"""
"""Every photo, since an unused one ties ads too; `class_name` only of those that may be samples. Of copies one is, also
where they are not `tying`."""


def split_dataset(build: Build) -> Mapping[str, Any]:
    """Split into train, validation and test, and certify that nothing leaks."""
    catalog, settings = build.catalog, build.project.settings.split

    def work() -> Mapping[str, Any]:
        photos = catalog.columns(f"{SPLIT_READS} ORDER BY p.photo_id")
        previous = catalog.columns("SELECT photo_id, ad_id, class_name, split FROM samples ORDER BY photo_id")
        samples = split(photos, previous=previous, settings=settings)
        given = _about_given(photos, samples, settings)
        absent = _absent(samples, previous)
        photos.clear()  # the certificate reads the catalogue anew: of ten million photos each reading is a gigabyte
        previous.clear()
        certified = certify(build, samples).check()
        catalog.replace("samples", {name: [*samples[name], *values] for name, values in absent.items()})
        status = Counter(samples["status"])
        warnings = _learnt_from(build)
        placed = Counter(name for name, state in zip(samples["split"], samples["status"], strict=True) if state == OK)
        return {
            "samples": status.pop(OK, 0),
            "split": {name: placed[name] for name in SPLITS if placed[name]},
            "stopped": dict(status),
            "certificate": str(certified),
            **({"given": given} if given else {}),
            **({"warnings": warnings} if warnings else {}),
            "text": "; ".join(
                [
                    ", ".join(f"{placed[name]} {name}" for name in SPLITS),
                    *([given] if given else []),
                    str(certified),
                    *(f"WARNING: {warning}" for warning in warnings),
                ]
            ),
        }

    return build.whole("split", reads=(SPLIT_READS,), writes=("SELECT * FROM samples",), settings=settings, work=work)


def forget_split(project: Project) -> None:
    """Forget in which split each photo stands, so that the next split deals all of them out anew."""
    with project.catalog() as catalog:
        catalog.replace("samples", [])


ABSENT = "absent"
"""The status of a sample that is none at present: its split is remembered for the day when its photo comes back."""


def _absent(samples: Mapping[str, Any], previous: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the photos that had a split before and are no samples now, in the columns of the samples."""
    old = previous["photo_id"]
    now = np.empty(len(samples["photo_id"]) + 1, object)
    now[:-1], now[-1] = samples["photo_id"], ""
    # Samples come by photo_id, so that each is looked up without a set of millions of texts.
    gone = now[np.searchsorted(now[:-1], old)] != old
    rows = [at for at in np.flatnonzero(gone).tolist() if previous["split"][at]]
    kept = {name: [previous[name][at] for at in rows] for name in ("photo_id", "ad_id", "class_name", "split")}
    # An ad may have moved to where its source puts it: what comes back must not stand elsewhere than its ad.
    ads, placed = set(kept["ad_id"]), zip(samples["ad_id"], samples["split"], strict=True)
    split_of = {ad: split for ad, split in placed if split and ad in ads}
    kept["split"] = [split_of.get(ad, split) for ad, split in zip(kept["ad_id"], kept["split"], strict=True)]
    unknown = [None] * len(rows)
    return kept | {"group_id": unknown, "status": [ABSENT] * len(rows), "message": unknown}


def _about_given(photos: Mapping[str, Any], samples: Mapping[str, Any], settings: SplitSettings) -> str | None:
    """Return how many samples keep the part that their source gave, and how many leaks of it were left out."""
    if settings.split == "new":
        return None
    part = {photo: name for photo, name in zip(photos["photo_id"], photos["given"], strict=True) if name in SPLITS}
    states = [
        (state, name == part[photo])
        for photo, name, state in zip(samples["photo_id"], samples["split"], samples["status"], strict=True)
        if photo in part
    ]
    kept, leaks = states.count((OK, True)), sum(state == "bridge" for state, _ in states)
    lost = (
        f", {leaks} left out since their ad or a duplicate is given another part (leaks of the source)" if leaks else ""
    )
    return f"{kept} in the part that the source gives{lost}" if states else None


def _learnt_from(build: Build) -> list[str]:
    """Warn where the networks that ship may have learnt from photos that are to judge them."""
    names = sorted(curated_sources(build))
    if not names:
        return []
    marks = ", ".join("?" for _ in names)
    (row,) = build.catalog.rows(
        f"""SELECT count(*) AS n, count(*) FILTER (p.split = 'train') AS learnt FROM samples s
        JOIN listing_photos p USING (photo_id) JOIN listings l ON l.ad_id = p.ad_id
        WHERE s.split = 'test' AND s.status = 'ok' AND l.source IN ({marks})""",
        *names,
    )
    if row["learnt"]:
        return [
            f"the identifier that ships has learnt from {row['learnt']} of the photos in test (Stanford's train part), "
            'so its figures here are too good; set split = "auto" in [split], or train from other weights'
        ]
    if row["n"]:
        return [
            f"{row['n']} photos in test are of a public data set, and not all photographs that the shipped networks "
            "have learnt from are known (NOTICE), so figures may be too good"
        ]
    return []


def certify(build: Build, samples: Mapping[str, Any]) -> LeakCertificate:
    """Count what stands in two splits, from the raw ads, bytes and hashes rather than from the groups of the split."""
    facts = build.catalog.columns(
        f"""SELECT p.photo_id, p.ad_id, CASE WHEN c.sha256 IN {AGAIN} THEN c.sha256 END AS sha256,
        coalesce(c.phash, 0) AS phash, coalesce(c.contrast >= ? AND c.phash IS NOT NULL, false) AS hashed,
        t.photo_id IS NOT NULL AS tying FROM listing_photos p LEFT JOIN checks c USING (photo_id)
        LEFT JOIN (SELECT photo_id FROM ({TYING})) t USING (photo_id) ORDER BY photo_id""",
        build.project.settings.duplicates.min_contrast,
    )
    ids, counts = texts(facts["photo_id"]), np.asarray(facts.pop("tying"), bool)
    # What ties no ads leaks nevertheless where it is a sample itself: a banner that stands in two splits.
    counts[np.searchsorted(ids, texts(samples["photo_id"])[texts(samples["status"]) == OK])] = True
    facts["sha256"] = np.where(counts, texts(facts["sha256"]), "")
    hashed = np.asarray(facts.pop("hashed"), bool) & counts
    # The same texts, not read twice.
    near = {"photo_id": ids[hashed], "phash": np.asarray(facts.pop("phash"))[hashed]}
    distance = min(MAX_DISTANCE, build.project.settings.duplicates.same)
    return certificate(samples, ads=facts, exact=facts, near=near, distance=distance)
