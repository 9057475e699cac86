"""Where listings come from in, the text of a new project's carspotter.toml out: every setting with its reason.

It guesses the kind of a source from its name; people change the file by hand afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from carspotter import storage
from carspotter.errors import ProjectError
from carspotter.sources import showroom
from carspotter.sources.stanford import is_devkit

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")

_TEXT = """\
# Settings of a carspotter project. An unknown key is an error. What is commented out shows the default;
# after a change, `carspotter build` does again just what depends on it.

name = {name}

{sources}
[fetch]                     # photographs behind URLs; those on a disk stay where they are
# timeout_s = 20.0
# retries = 4               # for what passes by itself: 429, 5xx, timeouts
# parallel = 8
# per_host = 4
# private = "own"           # may photos lie in your own network? those that your own tables name; never; or always
# allow = []                # networks and hosts that any source may name: 192.168.0.0/16, nas.example:8080
# user_agent = ""           # for servers that do not serve who calls itself carspotter

[check]                     # scores are kept, so that a changed threshold costs no second look at a photo
# min_side = 120            # pixels
# dark = 0.10               # mean brightness, 0..1
# blurred = 60.0            # variance of the Laplacian
# placeholder = 0.75        # share of one grey level
# drop = ["too-small", "dark", "bright", "placeholder", "blurred"]

[locate]
# The least probability that a photo shows a whole vehicle from outside is the finder's own unless `gate` is set.
# finder = "bundle/"        # bundles of your own in place of those that ship
# identifier = "bundle/"
# attributes = []           # bundles of your own that say the kind or the viewpoint, such as "models/kind"

[duplicates]
# max_distance = 10         # bits of the perceptual hash, of 64
# cosine = 0.985            # of the embeddings, where the hashes leave a doubt

[classes]                   # labels/classes.csv merges taxa (taxon,becomes) or leaves them out (becomes empty)
level = "model"             # make, model, generation (W205), type (its estate S205 too) or year
min_photos = {min_photos}            # a class with fewer is left out
# min_ads = 3
# only = []                 # such as ["BMW"]: outside of these makes or models nothing is a class

[split]
# split = "auto"            # keep the part that a source gives a photo; "given": there must be one, "new": ignore it
train = 0.70
validation = 0.15
test = 0.15
# seed = 0

[learn]
# method = "auto"           # probe, prototypes, or whichever is better on the validation split

[shards]
# format = ["webdataset"]   # webdataset, tfrecord, or both
# size = 0                  # pixels of a crop; 0: what the identifier sees
# encoding = "lossless"     # or jpeg, webp: smaller, and no longer the very pixels
# blur = false              # hide number plates and faces: for shards that others get

[share]                     # what leaves the house: report.html, export-dataset
# blur = true               # hide number plates and faces
"""

_CRAWL = """\
[[sources]]
kind = "crawl"
start = [{url}]
contact = ""                # your e-mail or web page: sites must be able to reach who crawls them
# listings = "/car/\\\\d+"     # pattern of the addresses of listings; without it every page is looked at
# follow = "[?&]page="      # pattern of further pages of results
# limit = 1000              # listings
# delay_s = 1.0             # between two requests to one host
"""

# The showroom has some 15 photos of each of its models.
_DRAWN_MIN_PHOTOS = 6


def settings_text(folder: Path, sources: Sequence[str]) -> str:
    """Return the text of carspotter.toml for a project that begins with some sources.

    A source is a table's path or URL, a folder's path or URL, a site's start page, or the word "showroom", whose ads
    `sources.showroom.unpack` puts into the project. Raises ProjectError for one that is none of these, and for names
    that a settings file cannot hold.
    """
    is_drawn = list(sources) == [showroom.FOLDER]
    return _TEXT.format(
        name=_quoted(folder.resolve().name),
        sources="\n".join(_source(folder, source) for source in sources),
        min_photos=_DRAWN_MIN_PHOTOS if is_drawn else 20,
    )


def _source(folder: Path, source: str) -> str:
    if source == showroom.FOLDER:
        return (
            f'[[sources]]\nkind = "table"\npath = "{source}/cars.csv"\nphotos = "{source}/photos"\nname = "{source}"\n'
        )
    plain = (source.partition("?")[0] if storage.is_url(source) else source).casefold()
    if plain.removesuffix(".gz").endswith(TABLES) and not Path(source).is_dir():
        return f'[[sources]]\nkind = "table"\npath = {_quoted(_path(folder, source))}\n' + _COLUMNS
    if plain.casefold().startswith(("http://", "https://")):
        return _CRAWL.format(url=_quoted(source))
    if not storage.is_url(source) and is_devkit(source):
        above = 'photos = ".."\n' if Path(source).resolve().name == "devkit" else ""
        return f'[[sources]]\nkind = "stanford"\npath = {_quoted(_path(folder, source))}\n{above}'
    if storage.is_url(source) or Path(source).is_dir():
        return f'[[sources]]\nkind = "folders"\npath = {_quoted(_path(folder, source))}\n'
    if plain.endswith(_WORKBOOKS):
        raise ProjectError(f"source {source!r} is a workbook; export it as CSV (UTF-8) and give that file")
    raise ProjectError(
        f"source {source!r} is neither a table ({' '.join(TABLES)}), nor a folder that is there, nor a URL, nor the "
        f"word {showroom.FOLDER}"
    )


_COLUMNS = """\
# columns = { ad_id = "id", make = "brand", photos = "images" }   # where the table's own names are others
# photos = "https://host/{image_id}.jpg"                          # or a folder; without it, beside the table
"""


def _path(folder: Path, source: str) -> str:
    """Return a local path as it counts from the project's folder; a link stays one, as it may lead elsewhere later."""
    if storage.is_url(source):
        return source
    place = Path(source)
    return os.path.relpath(place.parent.resolve() / place.name, folder.resolve())


def _quoted(text: str) -> str:
    """Write a text as TOML does; its basic strings are JSON's. Raises ProjectError for a name that is no text."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ProjectError(f"{text!r} is not UTF-8, as carspotter.toml is; give the file or folder another name")
    return json.dumps(text, ensure_ascii=False)
