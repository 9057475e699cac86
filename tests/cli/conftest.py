"""Tiny, real bundles and drawn photos for the command line, and the command itself."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from commands import COMMAND, Said, call
from tiny_bundles import BACKGROUNDS, draw_photo
from waiting import NEVER_S

RED = ("red", (100, 200, 500, 500))
BLUE = ("blue", (600, 100, 780, 250))


class Cli:
    """Call the command on tiny bundles, inside this process or as a program of its own."""

    def __init__(self, bundles: dict[str, Path]) -> None:
        named = [word for task, folder in bundles.items() for word in (f"--{task}", str(folder))]
        self.options = [*named, "--engine", "onnxruntime", "--threads", "1"]

    def identify(self, *arguments: object, input: bytes | None = None) -> Said:
        return call("identify", *self.options, *arguments, input=input)

    def words(self, *arguments: object) -> list[str]:
        """Give the words that start `identify` as a program."""
        return [*COMMAND, "identify", *self.options, *map(str, arguments)]


@pytest.fixture(scope="session")
def cli(bundles: dict[str, Path]) -> Cli:
    return Cli(bundles)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder: a red and a blue vehicle, an interior, no photo; one folder below, a green vehicle of the same name."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(draw_photo((800, 600), [RED, BLUE])).save(folder / "car.jpg", quality=95)
    Image.fromarray(draw_photo((800, 600), [("green", RED[1])])).save(folder / "more" / "car.png")
    Image.fromarray(draw_photo((800, 600), background=BACKGROUNDS["interior"])).save(folder / "inside.png")
    (folder / "text.jpg").write_text("no photo")
    return folder


@pytest.fixture(scope="session")
def program() -> Callable[..., "subprocess.CompletedProcess[bytes]"]:
    """Run words as a program, with this environment's packages."""

    def run(words: list[str], **options: object) -> "subprocess.CompletedProcess[bytes]":
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(words, capture_output=True, timeout=NEVER_S, env=environment, **options)  # type: ignore[call-overload, no-any-return]

    return run
