"""The command where something is missing that is usually there: a name, a home, a folder, a stream, a disk's room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import COMMAND, call
from tiny_project import make_project
from waiting import NEVER_S

NAMELESS = ("unshare", "-U", "--map-user=4321")


def run(*words: object, without: tuple[str, ...] = (), shell: str = "", **more: str) -> tuple[int, str, str]:
    """Run the command as a program, in a shell's line where `shell` is one with {} for it."""
    environment = {k: v for k, v in os.environ.items() if k not in without} | more
    line = [*COMMAND, *map(str, words)]
    if shell:
        line = ["bash", "-c", shell.replace("{}", '"$@"'), "bash", *line]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=NEVER_S, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def error_of(told: tuple[int, str, str]) -> str:
    """Check that a command failed with one line; return it."""
    code, _, err = told
    assert code == 1
    assert err.startswith("carspotter: ")
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("surroundings"))
    assert call("import", folder).code == 0
    return folder


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no user without a name can be made here")
def test_a_user_without_a_name_reviews() -> None:
    program = "from carspotter.review.session import user_name; print(user_name())"
    kept = {k: v for k, v in os.environ.items() if k not in ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")}
    words = [*NAMELESS, sys.executable, "-c", program]
    done = subprocess.run(words, env=kept, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "user-4321\n", done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no user without a name can be made here")
def test_without_a_home_the_cache_is_asked_for() -> None:
    program = "from carspotter.export.browser import cache_folder; cache_folder()"
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [*NAMELESS, sys.executable, "-c", program], env=kept, capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("unshare"):
        pytest.skip(done.stderr)
    assert done.stderr.splitlines()[-1].endswith("set XDG_CACHE_HOME or HOME")


def test_a_home_that_is_nobodys(project: Path, tmp_path: Path) -> None:
    settings = (project / "carspotter.toml").read_text().replace('"bundles/finder"', '"~nobody-of-this-name/finder"')
    (tmp_path / "carspotter.toml").write_text(settings)
    assert "~nobody-of-this-name" in error_of(call("check", tmp_path))


@pytest.mark.parametrize("words", [("status",), ("identify", "car.jpg"), ("init", "x", "--from", "showroom")])
def test_the_folder_it_stands_in_was_deleted(words: tuple[str, ...], tmp_path: Path) -> None:
    error_of(run(*words, shell=f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir ../gone; {{}}"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk is full here")
@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("sql", "SELECT 1", "--project")])
def test_a_full_disk(words: tuple[str, ...], project: Path) -> None:
    assert "No space left" in error_of(run(*words, project, shell="{} >/dev/full"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk is full here")
def test_a_full_disk_before_a_command_began() -> None:
    assert "No space left" in error_of(run("--version", shell="{} >/dev/full"))


def test_streams_that_are_closed(project: Path) -> None:
    assert run("status", project, shell="{} >&-")[0] == 0
    assert run("status", project / "nothing", shell="{} 2>&-") == (1, "", "")
    code, out, err = run("sql", "SELECT * FROM listing_photos", "--project", project, shell="{} | head -1")
    assert (code, out.count("\n"), err) == (0, 1, "")


@pytest.mark.parametrize("more", [{"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_of_little_knowledge(more: dict[str, str], project: Path) -> None:
    code, out, _ = run("status", project, without=("LANG", "LC_CTYPE"), PYTHONCOERCECLOCALE="0", **more)
    assert code == 0
    assert "listed" in out


@pytest.mark.parametrize("text", ["[/a]", "[bold]x", ":car:", "a[link=x]", "\\[b]"])
def test_what_strangers_wrote_is_shown_as_it_is(text: str, project: Path) -> None:
    words = ("sql", f"SELECT '{text}' AS \"{text}\"", "--project", project)
    done = call(*words)
    assert done.code == 0, done.err
    assert [line.strip() for line in done.out.splitlines()] == [text, text]
    assert json.loads(call(*words, "--json").out) == [{text: text}]


def test_a_name_with_line_breaks_is_one_line() -> None:
    error_of(call("status", "a\nb\x1b[31m"))
