"""The walk through docs/get-started.md: its commands as the page shows them, run in an empty folder.

It is the one build of the whole showroom in the default ring; tests that need one take a copy (`showroom_walk`).
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import commands

PAGE = Path(__file__).parent.parent / "docs" / "get-started.md"


def call(words: list[str]) -> tuple[int, str]:
    """Run a command in this process; give its exit code, and what it says on both streams."""
    if words[0] == "build":
        words = [*words, "--workers", "0"]
    done = commands.call(*words, columns=80 if words[0] == "identify" else 100)  # as wide as the pages show it
    return done.code, done.err + done.out


def shell_blocks(page: Path) -> Iterator[str]:
    """Yield the blocks of shell of a page."""
    yield from re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def dialogues(page: Path) -> Iterator[tuple[list[str], str]]:
    """Yield each command that a page shows with its output: the words after `carspotter`, and the lines below."""
    for block in shell_blocks(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("carspotter "):
                yield shlex.split(command, comments=True)[1:], output


def copy_of(project: Path, folder: Path) -> Path:
    """Copy a project to a folder that is not there yet, and look for no plates in it, which takes half of the time."""
    shutil.copytree(project, folder)
    settings = folder / "carspotter.toml"
    text = settings.read_text(encoding="utf-8")
    assert "# blur = true" in text
    settings.write_text(text.replace("# blur = true", "blur = false", 1), encoding="utf-8")
    return folder


def walk(folder: Path) -> None:
    """Walk in a folder that is not there yet; `said.json` keeps each command, what it should and what it did say."""
    folder.mkdir(parents=True)
    before, said = Path.cwd(), []
    os.chdir(folder)
    try:
        for words, output in dialogues(PAGE):
            code, told = call(words)
            assert code == 0, (words, told)
            said.append((shlex.join(words), output, told.replace(f"{Path.cwd()}/", "")))
    finally:
        os.chdir(before)
    (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")
