"""Every table of a catalogue: its columns, its key, and how it grows.

In: nothing. Out: `TABLES`, which the catalogue checks each append against and which `carspotter sql` shows. A **fact**
is a row about one key that a stage found out: facts are appended, never changed, and the newest for a key counts. A
**snapshot** is a whole table that a step makes of the whole catalogue: the newest one counts as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["text", "int", "hash", "number", "truth", "texts", "vector"]
"""text: str; int: 64 bits signed; hash: 64 bits unsigned; number: float32; truth: bool; texts: list of str;
vector: list of float16. Every column but the key may be null."""

Growth = Literal["facts", "snapshot"]

OK = "ok"
"""The status of a row that may go on; any other status is the short reason why it stopped here."""

ERROR = "error"
"""The status of a row on which a stage raised, or on which its worker died: it lacks its fact still."""

RETIRED = "retired"
"""The status of a fact that was retired: what it was about is listed no more. No question sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Describe one table: `key` is the column that names a row, `columns` maps names to types in their order."""

    name: str
    key: str
    growth: Growth
    about: str
    columns: Mapping[str, ColumnType]


_STATUS: dict[str, ColumnType] = {"status": "text", "message": "text"}
_BOX: dict[str, ColumnType] = {"x1": "number", "y1": "number", "x2": "number", "y2": "number"}

_ALL = (
    Table(
        name="listings",
        key="ad_id",
        growth="facts",
        about="advertisements as their sellers wrote them, in the seller's words",
        columns={
            "ad_id": "text",
            "source": "text",
            "url": "text",
            "make": "text",
            "model": "text",
            "submodel": "text",
            "year": "int",
            "body": "text",
            "title": "text",
            "price": "number",
            "currency": "text",
            "description": "text",
            "attributes": "text",  # whatever else the source says, as a JSON object
            **_STATUS,
        },
    ),
    Table(
        name="listing_photos",
        key="photo_id",
        growth="facts",
        about="which photograph belongs to which ad, where it is, and what the source says it shows",
        columns={
            "photo_id": "text",
            "ad_id": "text",
            "position": "int",
            "url": "text",
            "kind": "text",
            "viewpoint": "text",
            "split": "text",  # the part of the dataset that the source puts it in: train, validation or test
            **_STATUS,
        },
    ),
    Table(
        name="files",
        key="photo_id",
        growth="facts",
        about="where the bytes of a photo lie: a path below the project, or an absolute one where they always were",
        columns={
            "photo_id": "text",
            "path": "text",
            "bytes": "int",
            "sha256": "text",
            "modified": "int",  # when a local photo was last written, in ns since 1970: another time is another photo
            **_STATUS,
        },
    ),
    Table(
        name="checks",
        key="photo_id",
        growth="facts",
        about="whether a photo can be read and is worth reading: scores, and the flags that settings make of them",
        columns={
            "photo_id": "text",
            "width": "int",
            "height": "int",
            "format": "text",
            "sha256": "text",
            "phash": "hash",
            "dhash": "hash",
            "brightness": "number",
            "contrast": "number",
            "sharpness": "number",
            "plainness": "number",
            "flags": "texts",
            **_STATUS,
        },
    ),
    Table(
        name="findings",
        key="photo_id",
        growth="facts",
        about="what the finder says: kind, gate, and the largest vehicle with box and viewpoint, in upright pixels",
        columns={
            "photo_id": "text",
            "kind": "text",
            "kind_probability": "number",
            "exterior": "number",
            "passed": "truth",
            "vehicles": "int",
            **_BOX,
            "score": "number",
            "viewpoint": "text",
            "viewpoint_probability": "number",
            **_STATUS,
        },
    ),
    Table(
        name="embeddings",
        key="photo_id",
        growth="facts",
        about="what the identifier says of the crop of each vehicle that passed the gate: embedding, colour, body, and "
        "what its network says of its own models (`said`: their probabilities, 0 below a thousandth); `seen`: it has "
        "learnt from this photo, empty where that is not known",
        columns={
            "photo_id": "text",
            "bundle": "text",
            "embedding": "vector",
            "said": "vector",
            "colour": "text",  # the likeliest word, however sure
            "colour_probability": "number",
            "body": "text",
            "body_probability": "number",
            "seen": "truth",
            **_STATUS,
        },
    ),
    Table(
        name="duplicates",
        key="photo_id",
        growth="snapshot",
        about="photos that show the same picture: `exact` (same bytes) or `near`; one of each group is kept",
        columns={
            "photo_id": "text",
            "group_id": "text",
            "relation": "text",
            "kept": "truth",
            "distance": "int",
            "across_ads": "truth",
        },
    ),
    Table(
        name="labels",
        key="ad_id",
        growth="facts",
        about="which taxon an ad is of, and who said so: `seller`, `person` or `source`",
        columns={
            "ad_id": "text",
            "make": "text",
            "model": "text",
            "generation": "text",
            "year": "int",
            "name": "text",
            "score": "number",
            "method": "text",
            "said_by": "text",
            **_STATUS,
        },
    ),
    Table(
        name="reviews",
        key="photo_id",
        growth="snapshot",
        about="what people said of single photos against their ads: another taxon, or `dropped`",
        columns={
            "photo_id": "text",
            "make": "text",
            "model": "text",
            "generation": "text",
            "year": "int",
            "name": "text",
            "said_by": "text",
            **_STATUS,
        },
    ),
    Table(
        name="classes",
        key="taxon",
        growth="snapshot",
        about="what becomes of each taxon: a class of its own, merged into another, or left out, and why",
        columns={
            "taxon": "text",
            "class_name": "text",  # where the status is too-few, the class that it would be
            "make": "text",
            "model": "text",
            "generation": "text",
            "year": "int",
            "photos": "int",
            "ads": "int",
            **_STATUS,
        },
    ),
    Table(
        name="samples",
        key="photo_id",
        growth="snapshot",
        about="the photos of the dataset: class and split; a group (ads tied by duplicates) never crosses splits",
        columns={
            "photo_id": "text",
            "ad_id": "text",
            "class_name": "text",
            "group_id": "text",
            "split": "text",
            **_STATUS,
        },
    ),
    Table(
        name="predictions",
        key="photo_id",
        growth="snapshot",
        about="what a learned bundle answers for the photos that it did not learn from",
        columns={
            "photo_id": "text",
            "bundle": "text",
            "split": "text",
            "truth": "text",
            "answer": "text",
            "probability": "number",
            "rank": "int",  # rank of the truth among the candidates, 1 is best
        },
    ),
)

TABLES: Mapping[str, Table] = {table.name: table for table in _ALL}
