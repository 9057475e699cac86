"""The first step of a build: listings into the catalogue.

Sources are read again at every build, and the catalogue is kept in step with them (`sync`). A source that cannot be
read stops nothing: its ads stay as they are, and the build says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from carspotter import storage
from carspotter.errors import SourceError
from carspotter.progress import counted
from carspotter.project.build import Build
from carspotter.project.folder import Project
from carspotter.project.settings import (
    KnownSource,
    SourceSettings,
    known_sources,
    listed_still,
    mistakable,
    remember,
    remembered,
)
from carspotter.records import photo_id
from carspotter.sources.listing import Ad
from carspotter.sources.sync import Difference, Sync
from carspotter.storage_errors import shown

_TOLD_EVERY = 20_000  # ads


def import_listings(build: Build) -> Mapping[str, Any]:
    """Read every source and make the catalogue list what they list; say what changed, and what was wrong with rows.

    Raises SourceError when nothing at all can be read.
    """
    stats, difference = _synchronise(build, dry=False)
    return stats | warned([*stats.get("warnings", ()), *_silent_ads(build, difference.merged)])


def what_would_change(build: Build) -> Mapping[str, Any]:
    """Say what `import_listings` would change, with examples; nothing is written, and no crawled site is asked."""
    stats, difference = _synchronise(build, dry=True)
    return {**stats, "examples": difference.examples}


def _synchronise(build: Build, *, dry: bool) -> tuple[dict[str, Any], Difference]:
    folder, settings = build.project.folder, build.project.settings.sources
    before = remembered(folder)
    sources = known_sources(folder, settings)
    owned = {known.prefix: known for known in before}  # a source is at a new place once it was read there
    unread: list[KnownSource] = []
    sync = Sync(build.catalog, dry=dry)
    warnings = mistakable(before, sources)
    n_ads = 0
    for known, source in zip(sources, settings, strict=True):
        n_here, error = _read_into(sync, build, known, source, n_before=n_ads, dry=dry)
        n_ads += n_here
        if error is None:
            warnings += _taken_for(owned.get(known.prefix), known)
            owned[known.prefix] = known
            half_read = _half_read(build, source) if dry else []
            if not half_read:
                sync.complete(known.name)
            if not (n_here or half_read):
                warnings.append(f"source {known.name}: there is no ad in it")
            warnings += half_read + _crawl_problems(build, source)
            continue
        if sync.was_empty and len(sources) == 1:
            raise error
        warnings.append(f"source {known.name} cannot be read, its ads stay as they were: {error}")
        unread.append(known)
        if n_here:
            owned.setdefault(known.prefix, known)
    listed = listed_still(before, sources, unread)
    if not dry:
        remember(folder, owned.values(), listed)
    difference = sync.finish({known.name for known in (*sources, *owned.values()) if known.prefix in listed})
    return {**_in_numbers(difference, first=sync.was_empty), **warned(warnings)}, difference


def _read_into(
    sync: Sync, build: Build, known: KnownSource, source: SourceSettings, *, n_before: int, dry: bool
) -> tuple[int, SourceError | None]:
    """Hand the ads of a source to `sync`; return how many there were, and what ended them too early."""
    n_ads = n_before  # how many there will be, no source says before its end
    try:
        for n_ads, ad in enumerate(read_source(build, source, dry=dry), n_before + 1):
            sync.add(portable(ad, build.project.folder), source=known.name, prefix=known.prefix)
            if n_ads % _TOLD_EVERY == 0:
                build.watch.advance(n_ads, n_ads)
    except SourceError as error:
        return n_ads - n_before, error
    return n_ads - n_before, None


def _taken_for(old: KnownSource | None, new: KnownSource) -> list[str]:
    """Say of a source that it has inherited the ads of one that left: it may be another one after all."""
    if old is None or (before := shown(old.place)) == (now := shown(new.place)):  # no secret, such as a new signature
        return []
    return [
        f"source {now} is taken for {before} under another name: its ads have the ids of those, and what was "
        "decided of them; if it is another source, take it out of carspotter.toml, build, and add it again with "
        "another path or start page"
    ]


def _half_read(build: Build, source: SourceSettings) -> list[str]:
    """Say of a site that there is more to be read: what was not read yet is not gone."""
    if source.kind != "crawl":
        return []
    from carspotter.sources.crawl import source as crawl

    report = crawl.report(source.settings, build.project.crawl)
    if report is not None and report.is_done(source.settings):
        return []
    return [f"crawl of {source.settings.start[0]}: not crawled to its end: `carspotter crawl` goes on"]


def _crawl_problems(build: Build, source: SourceSettings) -> list[str]:
    if source.kind != "crawl":
        return []
    from carspotter.sources.crawl import source as crawl

    report = crawl.report(source.settings, build.project.crawl)
    return [f"crawl of {source.settings.start[0]}: {problem}" for problem in report.problems()] if report else []


def _in_numbers(difference: Difference, *, first: bool) -> dict[str, Any]:
    if first:
        stats: dict[str, Any] = {"listings": len(difference.new), "photos": difference.new_photos}
    else:
        stats = {"ads": {name: len(getattr(difference, name)) for name in ("changed", "new", "gone")}}
        photos = {"photos new": difference.new_photos, "photos gone": difference.gone_photos}
        stats |= {name: number for name, number in photos.items() if number}
    return {**stats, "stopped": difference.stopped} if difference.stopped else stats


def warned(warnings: Sequence[str]) -> dict[str, Any]:
    """Return the warnings of a step as a part of what it says."""
    return {"warnings": list(warnings)} if warnings else {}


def _silent_ads(build: Build, merged: set[str]) -> list[str]:
    """Return which ads of a build would else be missed by nobody."""
    bare = build.catalog.rows(
        "SELECT l.ad_id, count(*) OVER () AS n FROM listings l ANTI JOIN listing_photos p USING (ad_id) "
        "WHERE l.status = 'ok' ORDER BY l.ad_id LIMIT 3"
    )
    stats = []
    if bare:
        stats.append(
            f"{counted(bare[0]['n'], 'ad')} without any photo: {_some([row['ad_id'] for row in bare], bare[0]['n'])}"
        )
    if merged:
        first = _some(sorted(merged)[:3], len(merged))
        stats.append(f"{counted(len(merged), 'ad')} of several rows that name one car but differ otherwise: {first}")
    return stats


def _some(names: Sequence[str], total: int) -> str:
    return ", ".join(names) + (", …" if total > len(names) else "")


def portable(ad: Ad, folder: Path) -> Ad:
    """Name the photos below the project's folder by their path in it, so that the folder can be moved or copied."""
    return Ad(ad.listing, tuple(_portable(photo, f"{folder}{os.sep}") for photo in ad.photos))


def _portable(photo: dict[str, Any], folder: str) -> dict[str, Any]:
    url = photo.get("url", "")
    if not url.startswith(folder):
        return photo
    inside = url.removeprefix(folder)
    return {**photo, "url": inside, "photo_id": photo_id(photo["ad_id"], inside)}


def read_source(build: Build, source: SourceSettings, *, dry: bool = False) -> Iterator[Ad]:
    """Yield the ads of one source, if `dry` of a site those that were read before; paths count from the project."""
    from carspotter.sources import folders, stanford, table

    project, settings = build.project, placed(build.project, source)
    match source.kind:
        case "table":
            yield from table.read(settings)
        case "folders":
            yield from folders.read(settings)
        case "stanford":
            yield from stanford.read(settings)
        case "crawl":
            from carspotter.sources.crawl import source as crawl

            if dry:
                yield from crawl.read_journal(settings, project.crawl)
            else:
                yield from crawl.read(settings, project.crawl, progress=build.watch.advance)


def placed(project: Project, source: SourceSettings) -> Any:
    """Return a source's settings with paths that count from the project's folder."""
    settings = source.settings
    if hasattr(settings, "path"):
        settings = replace(settings, path=project.path(settings.path))
    if source.kind == "table" and settings.photos and not storage.is_url(settings.photos):
        settings = replace(settings, photos=project.path(settings.photos))
    return settings
