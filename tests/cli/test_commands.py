"""Start-up, help, version, and the commands that only pass on."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import carspotter
from carspotter import __version__
from carspotter.cli.train import missing
from carspotter.errors import MissingExtraError
from commands import call
from tiny_bundles import tiny_finder, tiny_identifier
from waiting import NEVER_S

Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_help_names_the_commands() -> None:
    code, out, _ = call("--help")
    assert code == 0
    assert all(command in out for command in ("identify", "models", "train", "export"))


def test_version_of_a_program(program: Program) -> None:
    done = program([sys.executable, "-m", "carspotter", "--version"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"carspotter {__version__}\n".encode(), b"")


def test_a_photo_in_place_of_a_command_is_told_which_command_takes_it(tmp_path: Path) -> None:
    photo = tmp_path / "my car.jpg"
    photo.touch()
    done = call(photo)
    assert done.code == 2
    assert f"Did you mean: carspotter identify '{photo}'" in done.err


def test_help_is_light() -> None:
    # What it loads, not how long it takes, which a busy machine decides: rich alone would be a fifth of a second.
    program = (
        "import sys; sys.argv = ['carspotter', 'identify', '--help']\n"
        "from carspotter.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=NEVER_S, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert not loaded & {"numpy", "PIL", "rich", "onnxruntime", "openvino", "fsspec", "torch"}


def test_an_unknown_command_is_wrong_usage() -> None:
    code, _, err = call("identfy")
    assert code == 2
    assert "identfy" in err


def test_models_lists_bundles(tmp_path: Path) -> None:
    tiny_finder(tmp_path / "a")
    tiny_identifier(tmp_path / "b")
    code, out, _ = call("models", tmp_path)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["tiny-finder", "finder"],
        ["tiny-identifier", "identifier"],
    ]
    assert "Apache-2.0" in out
    rows = json.loads(call("models", tmp_path, "--json")[1])
    assert [row["task"] for row in rows] == ["finder", "identifier"]
    assert rows[0]["figures"] == {"top-1": 1.0}


def test_models_shows_names_and_cards_as_they_are(tmp_path: Path) -> None:
    bundle = tiny_finder(tmp_path / "a")
    odd = replace(bundle, name="a[/b]", card={**bundle.card, "figures": "not measured [yet]"})
    odd.save(tmp_path / "a", bundle.model_path.read_bytes())
    code, out, _ = call("models", tmp_path)
    assert code == 0
    assert "a[/b]" in out
    assert "not measured [yet]" in out


def test_a_folder_without_bundles(tmp_path: Path) -> None:
    code, out, err = call("models", tmp_path)
    assert (code, out) == (0, "")
    assert "no model bundle" in err
    assert call("models", tmp_path / "missing")[0] == 1


def test_train_wants_key_and_value() -> None:
    code, _, err = call("train", "recipe.toml", "--set", "lr")
    assert code == 2
    assert "KEY=VALUE" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "project", "--how", "scratch"], "--how goes with --task NAME"),
        (["train", "project", "--merge-sides"], "--merge-sides goes with --task NAME"),
        (["train", "project", "--task", ""], "an argument is empty"),
        (["serve", "--feedback", ""], "an argument is empty"),
        (["export", "identifier", "--out="], "an argument is empty"),
        (["identify", ""], "an argument is empty"),
        (["train", "recipe.toml", "--out", "project"], "project is a project"),
        (["export", "identifier", "--out", "project"], "project is a project"),
        (["export", "identifier", "--classes", "classes.csv", "--out", "out"], "add --labels"),
        (["export", "run", "--photos", "photos", "--out", "out"], "--photos is for what is converted"),
        (["evaluate", "run", "--shards", "shards", "--out", "project"], "project is a project"),
        (["evaluate", "run", "--shards", "shards", "--classes", "classes.csv"], "--classes says what"),
        (["compare", "one", "other", "--out", "both.parquet"], "add --ensemble"),
        (["serve", "--allow-host", "example.com"], "add --allow-urls"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("project/carspotter.toml", "run/recipe.json"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    code, _, err = call(*words)
    assert (code, message in " ".join(err.split())) == (2, True), err


def test_a_missing_extra_names_its_install_command() -> None:
    error = missing(ModuleNotFoundError("no", name="torch.nn"), "train")
    assert isinstance(error, MissingExtraError)
    assert 'pip install "carspotter[train]"' in str(error)
    other = ModuleNotFoundError("no", name="carspotter.nothing")
    assert missing(other, "train") is other


@pytest.mark.parametrize("command", [["train", "recipe.toml"], ["export", "run", "--out", "bundle"]])
def test_without_torch_training_is_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for package in ("torch", "timm"):
        monkeypatch.setitem(sys.modules, package, None)
    for part in {"training", "export"} & vars(carspotter).keys():  # or the package would keep what is imported here
        monkeypatch.setattr(carspotter, part, vars(carspotter)[part])
    for name in [name for name in sys.modules if name.startswith(("carspotter.training", "carspotter.export"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = call(*command)
    assert code == 1
    assert len(err.splitlines()) == 1
