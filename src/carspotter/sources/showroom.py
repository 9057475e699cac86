"""The showroom: drawn used-car listings whose truth is known, out of the one file that ships with the package.

In: a folder. Out: photos below `photos/`, `cars.csv` as a dealer exports it, and the truth of both as `truth.json` and
`truth.csv`; a project reads the table like any other, and never the truth. Nothing is drawn here: `tools/showroom` in
the repository drew the file once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from carspotter import storage
from carspotter.errors import SourceError, StorageError
from carspotter.geometry import BoundingBox

PACK = Path(__file__).with_name("showroom.zip")
"""The file that ships."""
FOLDER = "showroom"
"""Where the showroom lies in a project; also the word for it where a source is named."""
FORMAT = 1
_TABLE, _TRUTH = "cars.csv", "truth.json"


def unpack(folder: str | Path) -> None:
    """Write the showroom into a folder; what is there already stays, and the truth is written last.

    Raises SourceError when the folder holds other ads or photos, or cannot be written.
    """
    root = Path(folder)
    with ZipFile(PACK) as archive:
        try:
            _claim(root, archive.read(_TABLE))
            for entry in archive.infolist():
                path = root / entry.filename
                if not (path.is_file() and path.stat().st_size == entry.file_size):
                    storage.write(path, archive.read(entry))
        except (OSError, StorageError) as error:
            raise SourceError(
                f"showroom {root}: cannot be written: {error}; free some space or name another folder"
            ) from error


def _claim(root: Path, table: bytes) -> None:
    """Write the table of ads first: a folder that holds another one, or photos and none, is somebody else's."""
    path = root / _TABLE
    if not path.exists():
        if (root / "photos").exists():
            raise SourceError(f"showroom {root}: has photos of its own; name an empty folder, so that nothing is mixed")
        storage.write(path, table)
    elif path.read_bytes() != table:
        raise SourceError(f"showroom {root}: its {_TABLE} lists other ads; name an empty folder")


def truth(folder: str | Path) -> dict[str, Any]:
    """Read the truth of an unpacked showroom: `settings`, `ads`, `photos`, `counts` of planted flaws.

    Raises SourceError where there is none, or one of another format.
    """
    path = Path(folder) / _TRUTH
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not Path(folder).exists():
            raise SourceError(
                f"showroom {folder}: is not there, so this project is no demo; run `carspotter demo` with a new folder"
            ) from error
        raise SourceError(
            f"showroom {folder}: has no {_TRUTH}: it is not there to the end; delete it and run `carspotter demo` again"
        ) from error
    except ValueError as error:
        raise SourceError(
            f"showroom {folder}: {_TRUTH} is damaged ({error}); delete it and run `carspotter demo` again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SourceError(
            f"showroom {folder}: {_TRUTH} is not of format {FORMAT}; run `carspotter demo` with a new folder"
        )
    return content


def pictures() -> Iterator[tuple[bytes, BoundingBox]]:
    """Yield the bytes of each sound photograph of the outside, copies left out, and the main car's box in pixels."""
    with ZipFile(PACK) as archive:
        for photo in json.loads(archive.read(_TRUTH))["photos"]:
            if photo["kind"] == "exterior" and not photo["flaw"] and not photo["relation"]:
                yield archive.read(photo["path"]), BoundingBox(*photo["boxes"][0])
