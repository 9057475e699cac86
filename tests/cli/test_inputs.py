"""What arguments become: files, folders, URLs, standard input."""

import io
import sys
from pathlib import Path

import pytest
import typer

from carspotter import storage
from carspotter.cli.inputs import Source, gather, is_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("b.JPG", "a.png", "notes.txt", "below/c.webp"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_arguments_keep_their_order_and_folders_are_sorted(folder: Path) -> None:
    sources, complaints = gather(["https://x.org/z.jpg", str(folder), "any.name"])
    names = [source.name.removeprefix(f"{folder}/") for source in sources]
    assert names == ["https://x.org/z.jpg", "a.png", "b.JPG", "below/c.webp", "any.name"]
    assert complaints == []


def test_without_recursion_only_the_folder_itself(folder: Path) -> None:
    for spelling in (str(folder), f"{folder}/", f"{folder}/below/..", f"{folder.as_uri()}/"):
        names = [Path(source.name).name for source in gather([spelling], recursive=False)[0]]
        assert names == ["a.png", "b.JPG"]


def test_folders_without_photos_are_complaints(tmp_path: Path) -> None:
    sources, complaints = gather([str(tmp_path), "nowhere://bucket/"])
    assert sources == []
    assert "no photo in this folder" in complaints[0]
    assert "nowhere://" in complaints[1]


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"photo")
    assert gather(["-"]) == ([Source(name="-", photo=b"photo")], [])


def test_standard_input_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MAX_BYTES", 4)
    pipe(monkeypatch, b"photo")
    sources, complaints = gather(["-", "other.jpg"])
    assert [source.name for source in sources] == ["other.jpg"]
    assert "standard input is over the limit" in complaints[0]


def test_standard_input_that_the_shell_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(typer.BadParameter, match="nothing is piped in"):
        gather(["-"])


def test_nothing_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(typer.BadParameter, match="nothing is piped in"):
        gather(["-"])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b.c.jpg", "b.c"),
        ("-", "stdin"),
        ("https://x.org/cars/audi.jpg?size=1&id=2", "audi"),
        ("https://x.org/", "photo"),
        (".jpg", ".jpg"),
    ],
)
def test_stem(name: str, stem: str) -> None:
    assert Source(name=name, photo=name).stem == stem


def test_is_folder(folder: Path) -> None:
    assert is_folder(str(folder))
    assert is_folder("s3://bucket/ads/")
    assert not any(map(is_folder, ("-", "missing", "x" * 300, "s3://bucket/a.jpg", str(folder / "a.png"))))
