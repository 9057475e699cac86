"""A catalogue in, the next useful things to do out: what holds photos back, how many, and the remedy.

It reads the same tables as the funnel and changes nothing. The largest loss comes first; what needs no person, such as
an interior that was rightly left out, is named only where it is so much that somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from carspotter.catalog.catalog import Catalog
from carspotter.catalog.funnel import STOPS, Funnel
from carspotter.catalog.tables import OK
from carspotter.errors import IMAGE_CODES, typed
from carspotter.progress import counted
from carspotter.project.folder import Project
from carspotter.project.settings import ProjectSettings

_MANY = 0.2
"""Share of the photos that come to a step from which on it is worth a look that so many stop there."""
_NAMED = 3
"""Examples that one line names."""

_WORTH_TRAINING = 500
"""Photos to learn from as of which a network is worth its minutes; of fewer a head learns as much in seconds."""

_WAITING = "they are asked for again by the next `carspotter build {project}`"
_FETCH: Mapping[str, str] = {
    "forbidden": (
        "the server asks for a name and a password, or refuses these: set CARSPOTTER_WEBDAV_USER and "
        "CARSPOTTER_WEBDAV_PASSWORD for WebDAV, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3"
    ),
    "missing": (
        "see what `path` and `photos` of the source in carspotter.toml lead to; what a server lacked is asked for "
        "again by `carspotter fetch {project} --again missing`"
    ),
    "gone": "its server has them no more; ask once more with `carspotter fetch {project} --again gone`",
    "not-a-photo": (
        "look whether the server wants a log-in, or whether these are broken files; once that is mended: "
        "`carspotter fetch {project} --again not-a-photo`"
    ),
    "quarantined": (
        "they were set aside in quarantine/, quarantine.csv there says why; mend the originals, then run "
        "`carspotter fetch {project} --again quarantined`"
    ),
    "private-address": "if these are your own servers, name them under `allow` in [fetch]",
    "robots": "the site forbids robots to fetch them; ask its owner for the photos",
    "too-large": (
        "if you want them, raise `max_bytes` in [fetch] and run `carspotter fetch {project} --again too-large`"
    ),
    "no-space": "make room on the disk, then run `carspotter build {project}`",
    "timeout": _WAITING,
    "unreachable": _WAITING,
    "server-error": _WAITING,
    "not-asked": _WAITING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One useful next thing, as a sentence; `photos` is how many hang on it (0: none is lost)."""

    text: str
    photos: int = 0


def advise(project: Project, catalog: Catalog, found: Funnel) -> tuple[Advice, ...]:
    """Return what to do next in a project, what would win most photos first and the way on at the end."""
    stops = {stage.name: stage.stopped for stage in found.stages}
    name = typed(project.folder)
    held = [
        *_rejected(catalog, name),
        *_unfetched(catalog, name),
        *_dropped(stops["check"], found, name),
        *_outside(stops["locate"], found, name),
        *_unresolved(catalog, stops["resolve"]),
        *_left_out(catalog, project.settings, stops["classes"]),
    ]
    held.sort(key=lambda advice: -advice.photos)
    return (*_waiting(stops, name), *held, *_lacking(project, catalog, name), *_onward(project, found, name))


def _waiting(stops: Mapping[str, Mapping[str, int]], name: str) -> Iterator[Advice]:
    pending = sum(stopped.get("pending", 0) for stopped in stops.values())
    if pending:
        waiting = counted(pending, "photo waits", "photos wait")
        yield Advice(photos=pending, text=f"{waiting} for a step: run `carspotter build {name}`")


def _rejected(catalog: Catalog, name: str) -> Iterator[Advice]:
    (row,) = catalog.rows(
        f"SELECT count(*) AS n, min_by(message, ad_id) AS message FROM listings WHERE status <> '{OK}'"
    )
    if row["n"]:
        yield Advice(
            photos=row["n"],
            text=f"{counted(row['n'], 'listing was', 'listings were')} rejected ({row['message']}): mend the source; "
            f"all: `carspotter sql \"SELECT ad_id, message FROM listings WHERE status <> 'ok'\" --project {name}`",
        )


def _unfetched(catalog: Catalog, name: str) -> Iterator[Advice]:
    rows = catalog.rows(
        f"""SELECT f.status, count(*) AS n, min_by(f.message, f.photo_id) AS message FROM ({STOPS}) s
        JOIN files f USING (photo_id) WHERE s.stage = 'fetch' AND f.status <> '{OK}' GROUP BY ALL ORDER BY ALL"""
    )
    for row in rows:
        remedy = _FETCH.get(row["status"], _WAITING).format(project=name)
        yield Advice(
            photos=row["n"],
            text=f"{_photos(row['n'])} could not be fetched, {row['status']} ({row['message']}): {remedy}",
        )


def _dropped(stopped: Mapping[str, int], found: Funnel, name: str) -> Iterator[Advice]:
    broken: dict[str, int] = {reason: n for reason, n in stopped.items() if reason in IMAGE_CODES}
    if broken:
        yield Advice(
            photos=sum(broken.values()),
            text=f"{_photos(sum(broken.values()))} cannot be read ({_listed(broken)}): `carspotter check {name} --fix` "
            "saves what can be saved",
        )
    flagged = {reason: n for reason, n in stopped.items() if reason not in (*IMAGE_CODES, "pending")}
    if sum(flagged.values()) > _MANY * _came_to("check", found):
        yield Advice(
            photos=sum(flagged.values()),
            text=f"{counted(sum(flagged.values()), 'photo was', 'photos were')} dropped as {_listed(flagged)}: "
            "if the report shows good ones among them, change the thresholds or `drop` in [check]; "
            "no photo is decoded again for it",
        )


def _outside(stopped: Mapping[str, int], found: Funnel, name: str) -> Iterator[Advice]:
    dropped = {reason: n for reason, n in stopped.items() if reason != "pending"}
    total = sum(dropped.values())
    if total > _MANY * _came_to("locate", found):
        yield Advice(
            photos=total,
            text=f"{counted(total, 'photo shows', 'photos show')} no whole vehicle ({_listed(dropped)}): "
            f"look whether that is right with `carspotter review {name} --queue uncertain --task kind`, "
            "the least sure first" + _needs("fastapi", "review"),
        )


def _unresolved(catalog: Catalog, stopped: Mapping[str, int]) -> Iterator[Advice]:
    words = """concat_ws(' ', nullif(l.make, ''), nullif(l.model, ''))"""
    rows = catalog.rows(
        f"""SELECT CASE WHEN {words} = '' THEN coalesce(l.title, 'no words at all') ELSE {words} END AS words,
        count(*) AS n FROM labels w JOIN listings l USING (ad_id) WHERE w.status = 'unresolved'
        GROUP BY ALL ORDER BY n DESC, words"""
    )
    if rows:
        ads = sum(row["n"] for row in rows)
        first = ", ".join(f"{row['words']!r} ({row['n']})" for row in rows[:_NAMED])
        yield Advice(
            photos=sum(n for reason, n in stopped.items() if reason != "pending"),
            text=f"the words of {counted(ads, 'ad')} name no make and model that is known, most often {first}: "
            "fill in labels/unresolved.csv and save it as labels/words.csv",
        )


def _left_out(catalog: Catalog, settings: ProjectSettings, stopped: Mapping[str, int]) -> Iterator[Advice]:
    few = stopped.get("too-few", 0)
    if not few:
        return
    rows = catalog.rows(
        """SELECT class_name AS name, sum(photos)::INT AS photos, sum(ads)::INT AS ads FROM classes
        WHERE status = 'too-few' GROUP BY ALL ORDER BY photos DESC, ads DESC, name"""
    )
    least = settings.classes
    largest = rows[0]
    limits = f"`min_photos` is {least.min_photos} and `min_ads` is {least.min_ads}"
    wins = next(((n, ads, k) for n, ads in _lower(settings) if (k := _with(rows, n, ads))), None)
    remedy = (
        f"with min_photos = {wins[0]} and min_ads = {wins[1]} in [classes] there would be {wins[2]} more"
        if wins
        else "more ads of them are needed, or merge them in labels/classes.csv"
    )
    yield Advice(
        photos=few,
        text=f"{counted(len(rows), 'model has', 'models have')} too few photos for a class, {_photos(few)} in all; "
        f"the largest, {largest['name']}, has {_photos(largest['photos'])} of "
        f"{counted(largest['ads'], 'ad')}, while {limits}: {remedy}",
    )


def _lower(settings: ProjectSettings) -> Iterator[tuple[int, int]]:
    """Yield lower limits than those of the settings, the highest first."""
    least = settings.classes
    for photos in (100, 50, 20, 10, 5):
        for ads in sorted({least.min_ads, min(2, least.min_ads)}, reverse=True):
            if photos <= least.min_photos and (photos, ads) != (least.min_photos, least.min_ads):
                yield photos, ads


def _with(rows: list[dict[str, Any]], photos: int, ads: int) -> int:
    """Count the classes that such limits would let in; fewer than a third of what is left out is no answer."""
    n = sum(row["photos"] >= photos and row["ads"] >= ads for row in rows)
    return n if 3 * n >= len(rows) else 0


_LACKING = """WITH dealt AS (SELECT * FROM samples WHERE status = 'ok'),
own AS (SELECT min(class_name) AS class_name FROM dealt GROUP BY coalesce(group_id, ad_id)
        HAVING count(DISTINCT class_name) = 1),
many AS (SELECT class_name FROM own GROUP BY ALL HAVING count(*) >= 3)
SELECT s.split, c.class_name FROM (SELECT DISTINCT split FROM dealt) s CROSS JOIN many c
WHERE NOT EXISTS (FROM dealt d WHERE d.split = s.split AND d.class_name = c.class_name) ORDER BY ALL"""
"""Classes that some split lacks, though they have three groups of their own: one for each split."""


def _lacking(project: Project, catalog: Catalog, name: str) -> Iterator[Advice]:
    """Tell of a split that was dealt out for other classes, unless it is the source that says the parts."""
    is_given = project.settings.split.split != "new" and catalog.rows(
        "SELECT 1 FROM listing_photos WHERE split IS NOT NULL LIMIT 1"
    )
    rows = [] if is_given else catalog.rows(_LACKING)
    if rows:
        classes, first = len({row["class_name"] for row in rows}), rows[0]
        yield Advice(
            text=f"{counted(classes, 'class has', 'classes have')} no photo in one of the splits, such as "
            f"{first['class_name']} in {first['split']}: photos stay where they were dealt out when the classes were "
            f"others; `carspotter split {name} --anew` deals all of them out anew, after which `carspotter build "
            f"{name}` learns and measures on other photos than before"
        )


def _onward(project: Project, found: Funnel, name: str) -> Iterator[Advice]:
    """Yield the way on from a dataset: look for wrong labels, train, ask the result."""
    if not found.splits:
        return
    doubts = f"find wrong labels: `carspotter doubts {name}`, then `carspotter review {name} --queue doubts`"
    yield Advice(text=doubts + _needs("cleanlab", "review"))
    is_trained = (project.trained / "bundle.json").is_file()
    if (project.learned / "bundle.json").is_file() or is_trained:
        yield Advice(text=f"ask what was learned: `carspotter identify PHOTO --identifier {name}`")
    if not is_trained and found.splits.get("train", 0) >= _WORTH_TRAINING and found.splits.get("validation", 0):
        words = f"train a network of your own on these photos: `carspotter train {name}`"
        yield Advice(text=words + _needs("torch", "train"))


def _needs(module: str, extra: str) -> str:
    """Return what has to be installed first for a command that is recommended, nothing where it is there."""
    return "" if find_spec(module) else f' (first: pip install "carspotter[{extra}]")'


def _came_to(step: str, found: Funnel) -> int:
    """Return how many photos came to a step."""
    names = [stage.name for stage in found.stages]
    place = names.index(step)
    return found.stages[place - 1].passed if place else found.photos


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in counts.items())


def _photos(number: int) -> str:
    return counted(number, "photo")
