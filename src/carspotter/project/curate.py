"""The middle steps of a build: look at photos, group duplicates, resolve words, choose classes, split.

Each reads columns from the catalogue, hands them to the stage that knows, and appends what it answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from carspotter import storage
from carspotter.catalog.tables import OK, RETIRED
from carspotter.dataset.certificate import MAX_DISTANCE, LeakCertificate, certificate
from carspotter.dataset.split import SplitSettings, split
from carspotter.evaluation.mistakes import confused_pairs
from carspotter.labels.classes import classes, read_merges
from carspotter.labels.corrections import Corrections, to_csv, unresolved
from carspotter.labels.resolve import Resolver, label_rows
from carspotter.photos.checks import CheckSettings, judge
from carspotter.photos.duplicates import Embeddings, find_duplicates
from carspotter.project.build import UNCHANGED, Build
from carspotter.project.folder import Project
from carspotter.project.locate import LocateSettings, LocateStage
from carspotter.project.settings import known_sources
from carspotter.records import SPLITS
from carspotter.review.apply import PHOTO_LABELS, corrections, decision_texts, review_rows
from carspotter.review.imported import open_decisions
from carspotter.sources.sync import forget_changed

Row = dict[str, Any]

LABEL_VERSION = "2"
"""Grows when the known names or the rules of `resolve` change, so that labels are made again."""

AGAIN = "(SELECT sha256 FROM checks GROUP BY sha256 HAVING count(*) > 1)"
"""The digests of more than one photo; those of the others, 64 letters each, need not be held to find copies."""

CHECKED = f"""SELECT c.photo_id, p.ad_id, CASE WHEN c.sha256 IN {AGAIN} THEN c.sha256 END AS sha256,
coalesce(c.phash, 0) AS phash, coalesce(c.dhash, 0) AS dhash, coalesce(c.width, 0) AS width,
coalesce(c.height, 0) AS height, CASE WHEN c.phash IS NOT NULL THEN c.contrast END AS contrast, c.sharpness
FROM checks c JOIN listing_photos p USING (photo_id) JOIN files f USING (photo_id)
WHERE c.sha256 IS NOT NULL AND f.status = 'ok'"""
"""Every photo with bytes, good or bad: a dark copy ties two ads as well as a bright one. One that could not be read has
no contrast, and no numbers are null, since a column with nulls is one of Python's own numbers, five times as large."""

USABLE = f"""SELECT p.photo_id, p.ad_id, w.name AS taxon, w.make, w.model, w.generation, w.year
FROM listing_photos p JOIN listings l USING (ad_id) JOIN files f USING (photo_id) JOIN checks c USING (photo_id)
JOIN findings v USING (photo_id) JOIN ({PHOTO_LABELS}) w ON w.photo_id = p.photo_id
WHERE p.status = 'ok' AND l.status = 'ok' AND f.status = 'ok' AND c.status = 'ok' AND v.status = 'ok'
AND v.passed AND v.x1 IS NOT NULL AND w.status = 'ok'"""
"""Every photo that shows a whole vehicle of a known taxon."""


def look_at_photos(build: Build, parts: tuple[str, ...] | None = None) -> Mapping[str, Any]:
    """Check, locate and embed the photos that lack it, or whose file has changed; thresholds that changed are applied.

    `parts` are the tables to fill, all by default.
    """
    settings = build.project.settings
    changed = forget_changed(build.catalog)
    look = LocateStage(
        folder=str(build.project.folder),
        check=settings.check,
        locate=settings.locate,
        **({"parts": parts} if parts else {}),  # type: ignore[arg-type]
    )
    stats = {**build.rows(look), **({"changed on disk": changed} if changed else {})}
    judged = _judge_photos(build)
    stats |= {"judged anew": judged} if judged else {}
    # By the funnel: a photo that fails both ways stops at the check, and is counted once.
    stopped = build.stopped("check", *(() if parts == ("checks",) else ("locate",))) if any(stats.values()) else {}
    return {**stats, **stopped}


def _judge_photos(build: Build) -> int:
    """Apply thresholds to stored scores where settings have changed, and return how many rows that changes."""
    settings = build.project.settings

    def work() -> Mapping[str, Any]:
        checks = _changed(build.catalog.rows("SELECT * FROM checks WHERE width IS NOT NULL"), _judged(settings.check))
        findings = _changed(build.catalog.rows("SELECT * FROM findings WHERE status = 'ok'"), _gated(settings.locate))
        for table, rows in (("checks", checks), ("findings", findings)):
            _append(build, table, rows)
        return {"changed": len(checks) + len(findings)}

    # Only a change of settings makes work: a new photo was judged when it was looked at.
    done = build.whole("judge", reads=(), writes=(), settings=[settings.check, settings.locate.least()], work=work)
    return 0 if UNCHANGED in done else int(done["changed"])


def _judged(settings: CheckSettings) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        flags, status = judge(row, settings)
        return {**row, "flags": flags, "status": status}

    return change


def _gated(settings: LocateSettings) -> Callable[[Row], Row]:
    least = settings.least()
    return lambda row: {**row, "passed": row["exterior"] >= least}


def _changed(rows: list[Row], change: Callable[[Row], Row]) -> list[Row]:
    return [fresh for row in rows if (fresh := change(row)) != row]


def _append(build: Build, table: str, rows: list[Row]) -> None:
    """Append facts under the version that each had: to judge a score anew is no new look at the photo."""
    versions: dict[str, list[Row]] = {}
    for row in rows:
        plain = {name: value for name, value in row.items() if value is not None and name != "stage_version"}
        versions.setdefault(row["stage_version"], []).append(plain)
    for version, part in versions.items():
        build.catalog.append(table, part, version=version)


def group_duplicates(build: Build) -> Mapping[str, Any]:
    """Group photos that show the same picture."""
    settings, catalog = build.project.settings.duplicates, build.catalog

    def work() -> Mapping[str, Any]:
        photos = catalog.columns(f"{CHECKED} ORDER BY c.photo_id")
        rows = find_duplicates(photos, settings, embeddings=_embeddings(build))
        catalog.replace("duplicates", rows)
        return {
            "groups": len({row["group_id"] for row in rows}),
            "photos": len(rows),
            "copies": {
                relation: count
                for relation in ("exact", "near")
                if (count := sum(not row["kept"] and row["relation"] == relation for row in rows))
            },
        }

    reads = (CHECKED, "SELECT photo_id, stage_version FROM embeddings WHERE status = 'ok'")
    return build.whole("deduplicate", reads=reads, writes=("SELECT * FROM duplicates",), settings=settings, work=work)


def _embeddings(build: Build) -> Embeddings:
    """Read the embeddings of the few photos that are asked for; all of a million are 5 GB."""

    def read(photo_ids: list[str]) -> tuple[Any, Any]:
        found = build.catalog.columns(
            f"SELECT * FROM {build.embeddings} WHERE photo_id IN (SELECT unnest(?))", photo_ids
        )
        return found["photo_id"], found["embedding"]

    return read


LISTED = "SELECT ad_id, source, make, model, submodel, year, title, description FROM listings WHERE status = 'ok'"
AT_ONCE = 50_000
"""Listings whose words are held at a time: two million with their descriptions are gigabytes."""


def resolve_labels(build: Build) -> Mapping[str, Any]:
    """Turn sellers' words into taxa, and list those that are not understood in `labels/unresolved.csv`."""
    catalog, folder = build.catalog, build.project.labels
    store = open_decisions(folder)

    def work() -> Mapping[str, Any]:
        methods, open_ = _label_listings(build, _resolver(build, corrections(folder, store)))
        reviews = review_rows(catalog, store)
        catalog.replace("reviews", reviews)
        storage.write(folder / "unresolved.csv", to_csv(unresolved(open_, open_)).encode("utf-8-sig"))
        stats = {"reviewed photos": len(reviews)} if reviews else {}
        found = dict(methods.most_common())
        return {"resolved": methods.total(), "unresolved": len(open_), "methods": found, **stats}

    return build.whole(
        "resolve",
        reads=(LISTED, "SELECT photo_id, ad_id FROM listing_photos"),
        writes=("SELECT * FROM labels", "SELECT * FROM reviews"),
        settings=[LABEL_VERSION, decision_texts(folder, store)],
        work=work,
    )


def _resolver(build: Build, decided: Corrections) -> Resolver:
    said = build.catalog.rows(f"SELECT make, model, count(*) AS n FROM ({LISTED}) GROUP BY ALL ORDER BY ALL")
    return Resolver(corrections=decided, seen={(row["make"], row["model"]): row["n"] for row in said})


def _label_listings(build: Build, resolver: Resolver) -> tuple[Counter[str], list[Row]]:
    """Append the labels that changed; return how many were found by each method, and what was not understood."""
    catalog, curated = build.catalog, _curated(build)
    methods: Counter[str] = Counter()
    open_: list[Row] = []
    for listings in _blocks(build):
        rows = list(label_rows(listings, resolver, curated=curated))
        ends = rows[0]["ad_id"], rows[-1]["ad_id"]
        known = catalog.rows("SELECT * EXCLUDE (stage_version) FROM labels WHERE ad_id BETWEEN ? AND ?", *ends)
        old = {row["ad_id"]: row for row in known}
        fresh = [row for row in rows if not _same(row, old.get(row["ad_id"]))]
        if fresh:
            catalog.append("labels", fresh)
        methods.update(row["method"] for row in rows if row["status"] == OK)
        for listing, row in zip(listings, rows, strict=True):
            if row["status"] != OK:
                words = {name: listing[name] for name in ("ad_id", "make", "model", "submodel", "title")}
                open_.append({**words, "status": row["status"], "message": row.get("message")})
    left = catalog.rows(f"SELECT ad_id FROM labels ANTI JOIN ({LISTED}) USING (ad_id) ORDER BY ad_id")
    if left:
        catalog.append("labels", [{"ad_id": row["ad_id"], "status": RETIRED} for row in left])
    return methods, open_


def _blocks(build: Build) -> Iterator[list[Row]]:
    """Yield the listings by ad_id, so many at once."""
    last = ""
    while rows := build.catalog.rows(f"SELECT * FROM ({LISTED}) WHERE ad_id > ? ORDER BY ad_id LIMIT {AT_ONCE}", last):
        yield rows
        last = rows[-1]["ad_id"]


def _curated(build: Build) -> set[str]:
    """Name the sources whose labels are not a seller's words but a data set's."""
    known = known_sources(build.project.folder, build.project.settings.sources)
    return {source.name for source in known if source.kind == "stanford"}


def _same(row: Row, known: Row | None) -> bool:
    """Return whether a row is known already; a score comes back from the catalogue with 24 bits."""
    if known is None:
        return False
    return all(
        np.float32(row.get(name, 0.0)) == np.float32(value or 0.0) if name == "score" else row.get(name) == value
        for name, value in known.items()
    )


def choose_classes(build: Build) -> Mapping[str, Any]:
    """Choose the classes among the taxa of usable photos, and suggest merges."""
    catalog, settings = build.catalog, build.project.settings.classes
    path = build.project.labels / "classes.csv"

    def work() -> Mapping[str, Any]:
        chosen = classes(catalog.columns(f"{USABLE} ORDER BY p.photo_id"), settings=settings, merges=read_merges(path))
        catalog.replace("classes", list(chosen.rows))
        reasons = Counter(row["status"] for row in chosen.rows if row["status"] != OK)
        stats: dict[str, Any] = {"classes": len(chosen.taxa), "left out or merged": dict(reasons.most_common())}
        counted = catalog.rows("SELECT truth, answer, count(*) AS n FROM predictions GROUP BY ALL ORDER BY ALL")
        hints = confused_pairs({(row["truth"], row["answer"]): row["n"] for row in counted})
        names = {row["class_name"] for row in chosen.rows if row["status"] == OK}
        # They were counted on the classes of the build before, some of which may be merged by now.
        told = [str(hint) for hint in hints if {hint.first, hint.second} <= names]
        return {**stats, "hints": told} if told else stats

    merges = path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else ""
    return build.whole(
        "classes", reads=(USABLE,), writes=("SELECT * FROM classes",), settings=[settings, merges], work=work
    )


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

SPLIT_READS = f"""SELECT p.photo_id, p.ad_id, CASE WHEN t.photo_id IS NOT NULL THEN d.group_id END AS group_id,
coalesce(d.kept, true) AS kept, k.class_name, p.split AS given
FROM listing_photos p LEFT JOIN duplicates d USING (photo_id) LEFT JOIN ({TYING}) t ON t.photo_id = p.photo_id
LEFT JOIN ({USABLE}) u ON u.photo_id = p.photo_id
LEFT JOIN (SELECT taxon, class_name FROM classes WHERE status IN ('ok', 'merged')) k ON k.taxon = u.taxon"""
"""Every photo, since an unused one ties ads too; `class_name` only of those that may be samples."""


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
    names = sorted(_curated(build))
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
        f"""SELECT p.photo_id, p.ad_id, CASE WHEN t.sha256 IN {AGAIN} THEN t.sha256 END AS sha256,
        coalesce(t.phash, 0) AS phash, coalesce(t.contrast >= ? AND t.phash IS NOT NULL, false) AS hashed
        FROM listing_photos p LEFT JOIN ({TYING}) t USING (photo_id) ORDER BY photo_id""",
        build.project.settings.duplicates.min_contrast,
    )
    hashed = np.asarray(facts["hashed"], bool)
    # The same texts, not read twice.
    near = {"photo_id": np.asarray(facts["photo_id"])[hashed], "phash": np.asarray(facts.pop("phash"))[hashed]}
    distance = min(MAX_DISTANCE, build.project.settings.duplicates.same)
    return certificate(samples, ads=facts, exact=facts, near=near, distance=distance)
