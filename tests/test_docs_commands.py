"""Run the commands that the documentation shows: those of docs/get-started.md as they stand, then what other pages add.

In: blocks of shell in README and docs/. The walk is compared with the outputs that the page shows, word for word (where
one ends with …, more is said), and its numbers within a twentieth: networks may differ in the last digits between
processors. Other commands run where a small project stands. What asks the network, serves or trains is left to the
tests of its part; each such command is named below with its reason.
"""

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from get_started import PAGE, call, dialogues, shell_blocks

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    r"crawl |init .*https?:": "asks a site: tests/sources",
    r"serve|review |--server": "does not end by itself: tests/serving, tests/review",
    r"train |evaluate |compare |export |finder-rows ": "needs a training: tests/training and others",
    r"build .*--on ": "starts a cluster: tests/compute",
    r"browser |demo ": "tests/export, tests/cli",
    r"fetch .*--again gone": "no photo of the walk is gone: tests/project",
    r"init .*--from (?:showroom|photos/|stanford)": "the walk makes that project",
    r"(?:init|build|status|doubts) (?:listings|auto-car|my-types)": "asks a server: tests/sources, tests/photos",
    r"identify .*my-identifier": "needs an export: tests/export",
    r"identify .*--attribute": "needs a training: tests/project",
}


def others() -> list[str]:
    """List the commands of all pages that the walk does not have, each once."""
    walked = {shlex.join(words) for words, _ in dialogues(PAGE)}
    found = {}
    for block in itertools.chain.from_iterable(map(shell_blocks, PAGES)):
        for line in re.findall(r"^(?:\$ )?carspotter (.+)$", block, flags=re.MULTILINE):
            if not line.endswith("\\"):
                found[shlex.join(shlex.split(line, comments=True))] = None
    return [command for command in found if command not in walked and not reason(command)]


def reason(command: str) -> str | None:
    """Say why a command is not run here."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


def comparable(text: str) -> list[tuple[str, list[float]]]:
    """Give the parts of each line as words and numbers, sorted; no bars, times, progress, nor folders above.

    Sorted, since results and progress are two streams, and photos of several workers come in any order.
    """
    text = re.sub(
        r"^.* a second, about .*$|^.* a second$|^my-cars/report\.html$|[█─]+| +\((?:\d+ h )?\d+ (?:s|min)\)|\d+ ms",
        "",
        text,
        flags=re.MULTILINE,
    )
    parts = []
    for part in re.split(r"[\n,;]", text):
        words = " ".join(re.sub(r"\d+(?:\.\d+)?", "#", part).split())
        parts.append((words, [float(number) for number in re.findall(r"\d+(?:\.\d+)?", part)]))
    return sorted(part for part in parts if part[0] not in ("", "…"))


def test_get_started_says_what_happens(showroom_walk: Path) -> None:
    walked = [tuple(row) for row in json.loads((showroom_walk / "said.json").read_text(encoding="utf-8"))]
    assert [command.split()[0] for command, _, _ in walked] == ["init", "build", "status", "identify", "sql"]
    for command, expected, told in walked:
        shown, found = comparable(expected), comparable(told)
        if expected.rstrip().endswith("…"):  # more is said than is shown
            known = {words for words, _ in shown}
            found = [part for part in found if part[0] in known]
        assert [words for words, _ in found] == [words for words, _ in shown], command
        for (words, numbers), (_, wanted) in zip(found, shown, strict=True):
            assert numbers == pytest.approx(wanted, rel=0.05, abs=3), f"{command}: {words}"


@pytest.fixture(scope="module")
def place(tiny_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: a built project of some ads, photos, and a table."""
    folder = tmp_path_factory.mktemp("place")
    project = Path(shutil.copytree(tiny_built, folder / "my-cars"))
    (folder / "cars").mkdir()
    for name in ("photo.jpg", "my-car.jpg", "cars/025.webp"):
        shutil.copyfile(project / "pictures" / "1000_0.jpg", folder / name)
    (folder / "cars.csv").write_text("ad_id,make,model,photos\n1,Audi,A4,photo.jpg\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", others())
def test_command_runs(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if command.startswith("init"):
        command = command.replace("my-cars", "other-cars")
    if "my-coco/" in command and not Path("my-coco").exists():  # of a command that another test runs
        assert call(shlex.split("export-dataset my-cars --to coco --out my-coco"))[0] == 0
    code, said = call(shlex.split(command))
    assert code == 0, said


def test_every_command_is_run_or_has_a_reason() -> None:
    assert len(others()) > 15
    shown = "\n".join(itertools.chain.from_iterable(map(shell_blocks, PAGES)))
    assert all(re.search(rf"carspotter (?:{pattern})", shown) for pattern in NOT_RUN), "a reason without a command"
