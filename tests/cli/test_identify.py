"""What `carspotter identify` prints, writes and returns."""

import json
import math
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from carspotter.cli import progress
from carspotter.headers import SUFFIXES
from carspotter.records import Prediction
from hostile import hostile_files
from tiny_bundles import TOY_COLOR, draw_photo
from waiting import NEVER_S

Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say nothing of how far it is, as where all is done within seconds: a busy machine takes longer."""
    monkeypatch.setattr(progress, "_FORETELL_AFTER_S", math.inf)


def told(errors: bytes) -> list[bytes]:
    """Give the lines of a program's stderr but those that say how far it is."""
    return [line for line in errors.splitlines() if not line.startswith(b"photos ")]


def test_one_photo_is_a_panel_with_bars(cli: Any, photos: Path) -> None:
    done = cli.identify(photos / "car.jpg")
    assert done.code == 0
    assert "Rubin Alpha 2012  1.00" in done.out
    assert "red 1.00, Sedan 1.00, seen from front" in done.out
    assert "generation" in done.out
    assert "█" in done.out
    assert done.err == ""


def test_many_photos_are_a_table_with_a_row_each(cli: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # the folder's name is long
    done = cli.identify(photos)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["photo", "kind", "vehicle", "look", "viewpoint", "box"]
    assert "Rubin Alpha 2012" in done.out
    assert "red Sedan" in done.out
    assert "an interior: no whole vehicle to identify" in done.out
    assert "not a photo that can be read" in done.out
    assert "1 of 4 photos could not be read" in done.err


def test_what_is_no_car_is_told_in_words(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("a.png", "b.png"):
        Image.fromarray(draw_photo((800, 600), [(TOY_COLOR, (100, 200, 500, 500))])).save(tmp_path / name)
    one, many = cli.identify(tmp_path / "a.png").out, cli.identify(tmp_path).out
    for out in (one, many):
        assert "not decidable: this does not look like a photograph of one whole car" in out
        assert "Rubin" not in out
    assert "seen from front" in one


def test_json_of_one_photo_is_an_object_and_of_a_folder_an_array(cli: Any, photos: Path) -> None:
    one = json.loads(cli.identify(photos / "car.jpg", "--json").out)
    assert one["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"
    assert list(one) == ["photo", "width", "height", "kind", "vehicles", "error", "bundles", "milliseconds"]
    many = json.loads(cli.identify(photos, "--json").out)
    assert [Path(p["photo"]).name for p in many] == ["car.jpg", "inside.png", "car.png", "text.jpg"]
    two = json.loads(cli.identify(photos / "car.jpg", photos / "text.jpg", "--json").out)
    assert [p["error"] is None for p in two] == [True, False]


def test_jsonl_is_a_prediction_a_line(cli: Any, photos: Path) -> None:
    lines = cli.identify(photos, "--jsonl").out.splitlines()
    assert len(lines) == 4
    assert all(Prediction.from_dict(json.loads(line)).photo for line in lines)


def test_options_reach_the_recogniser(cli: Any, photos: Path) -> None:
    arguments = (photos / "car.jpg", "--json", "--select", "all", "--top", 1)
    vehicles = json.loads(cli.identify(*arguments).out)["vehicles"]
    assert [v["levels"]["make"][0]["name"] for v in vehicles] == ["Rubin", "Azur"]
    assert all(len(ranked) == 1 for v in vehicles for ranked in v["levels"].values())
    unsure = json.loads(cli.identify(photos / "car.jpg", "--json", "--threshold", 1).out)["vehicles"][0]
    assert unsure["answer"] is None or unsure["answer"]["probability"] == 1


def test_recursion_can_be_turned_off(cli: Any, photos: Path) -> None:
    assert len(cli.identify(photos, "--jsonl", "--no-recursive").out.splitlines()) == 3


def test_a_photo_on_standard_input(cli: Any, photos: Path) -> None:
    done = cli.identify("-", "--json", input=(photos / "car.jpg").read_bytes())
    assert json.loads(done.out)["photo"] == "-"
    assert json.loads(done.out)["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"


def test_a_url(cli: Any, photos: Path) -> None:
    assert json.loads(cli.identify((photos / "car.jpg").as_uri(), "--json").out)["error"] is None


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl"]])
def test_none_could_be_read(cli: Any, photos: Path, form: list[str]) -> None:
    for arguments in ([photos / "text.jpg"], [photos / "missing.jpg"], [photos / "text.jpg", photos / "missing.jpg"]):
        done = cli.identify(*arguments, *form)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1


def test_a_folder_without_a_photo_is_one_clear_line(cli: Any, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cli.identify(tmp_path / "empty")
    assert done.code == 1
    assert done.out == ""
    assert "no photo in this folder" in done.err
    assert len(done.err.splitlines()) == 1
    both = cli.identify(tmp_path / "empty", photos / "car.jpg")
    assert both.code == 0
    assert "no photo in this folder" in both.err
    assert "Rubin" in both.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["a.jpg", "--json", "--jsonl"], "exclude each other"),
        (["a.jpg", "--threshold", "2"], "--threshold"),
        (["a.jpg", "--top", "0"], "--top"),
        (["a.jpg", "--select", "nearest"], "--select"),
        (["a.jpg", "--jsom"], "--jsom"),
    ],
)
def test_wrong_usage_is_exit_code_two(cli: Any, arguments: list[str], message: str) -> None:
    done = cli.identify(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


def test_a_wrong_bundle_is_one_line(cli: Any, photos: Path) -> None:
    done = cli.identify(photos / "car.jpg", "--finder", photos)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "bundle.json" in done.err


def test_debug_adds_the_traceback_wherever_it_stands(cli: Any, photos: Path) -> None:
    done = cli.identify(photos / "car.jpg", "--finder", photos, "--debug")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("carspotter: ")


# ---- drawings


def test_a_drawing_of_one_photo_takes_the_name_given(cli: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "drawn.png"
    done = cli.identify(photos / "car.jpg", "--draw", out, "--json")
    assert json.loads(done.out)["drawn"] == str(out)
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == ("PNG", (800, 600))


def test_drawings_of_many_photos_go_into_a_folder_with_a_name_each(cli: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    done = cli.identify(photos, "--draw", out, "--jsonl")
    assert sorted(path.name for path in out.iterdir()) == ["car-2.jpg", "car.jpg", "inside.jpg"]
    drawn = [json.loads(line).get("drawn") for line in done.out.splitlines()]
    assert [Path(d).name if d else None for d in drawn] == ["car.jpg", "inside.jpg", "car-2.jpg", None]


def test_a_drawing_never_overwrites_a_photo(cli: Any, photos: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    assert cli.identify(photos, "--draw", photos).code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (photos / "car-2.jpg").exists()
    done = cli.identify(photos / "car.jpg", "--draw", photos / "more" / ".." / "car.jpg")
    assert done.code == 2
    assert "this is the photo itself" in done.err


def test_many_drawings_do_not_go_into_a_file(cli: Any, photos: Path) -> None:
    done = cli.identify(photos, "--draw", photos / "text.jpg")
    assert done.code == 2
    assert "need a folder" in done.err


def test_a_drawing_never_overwrites_a_photo_given_as_a_url(cli: Any, photos: Path) -> None:
    done = cli.identify((photos / "car.jpg").as_uri(), "--draw", photos / "car.jpg")
    assert done.code == 2
    assert "this is the photo itself" in done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [("drawn.gif", "no .gif is written; allowed: .jpg .jpeg .png .webp"), ("text.txt", "a file of another kind")],
)
def test_a_drawing_of_a_form_that_is_not_written(cli: Any, photos: Path, name: str, message: str) -> None:
    (photos / "text.txt").write_text("keep me")
    done = cli.identify(photos / "car.jpg", "--draw", photos / name)
    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert not (photos / "drawn.gif").exists()


def test_many_drawings_make_no_folder_that_is_called_like_a_file(cli: Any, photos: Path) -> None:
    assert cli.identify(photos, "--draw", photos / "new.jpg").code == 2
    assert not (photos / "new.jpg").exists()


def test_a_picture_too_large_for_its_form_is_one_line(cli: Any, tmp_path: Path) -> None:
    Image.new("RGB", (65_530, 4)).save(tmp_path / "strip.png")
    for name in ("drawn.jpg", "drawn.webp"):
        done = cli.identify(tmp_path / "strip.png", "--draw", tmp_path / name)
        assert done.code == 0
        assert "holds no picture of 65530x4" in done.err
        assert len(done.err.splitlines()) == 1


def test_links_in_a_circle_are_passed_over(cli: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "more" / "up").symlink_to("..")
    done = cli.identify(photos, "--jsonl", "--draw", tmp_path / "drawn")
    assert done.code == 0
    assert len(done.out.splitlines()) == 5
    assert "2 of 5 photos could not be read" in done.err


def test_a_name_too_long_and_a_file_url_that_is_none_are_one_line(cli: Any) -> None:
    for name in ("x" * 300 + ".jpg", "file://[a/b.jpg"):
        done = cli.identify(name)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1


def test_a_url_that_fails_is_named_once_and_without_its_secrets(cli: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:hidden@127.0.0.1:{free.getsockname()[1]}/a.jpg?token=hidden"
    done = cli.identify(url)
    assert done.code == 1
    assert done.err.count("/a.jpg") == 1
    assert "hidden" not in done.err


# ---- as a program


def test_hostile_files_are_a_line_each_and_others_still_answered(cli: Any, tmp_path: Path, photos: Path) -> None:
    folder = tmp_path / "hostile"
    paths = [path for path in hostile_files(folder) if path.name.lower().endswith(SUFFIXES)]
    (folder / "zz-good.jpg").write_bytes((photos / "car.jpg").read_bytes())
    done = cli.identify(folder, "--jsonl")
    found = [json.loads(line) for line in done.out.splitlines()]
    visible = sorted(str(p) for p in [*paths, folder / "zz-good.jpg"] if not p.name.startswith("."))
    assert len(paths) > 100
    assert [p["photo"] for p in found] == visible
    assert found[-1]["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"
    assert done.code == 0


def test_standard_input_and_output_of_a_program(cli: Any, photos: Path, program: Program) -> None:
    done = program(cli.words("-", "--jsonl"), input=(photos / "car.jpg").read_bytes())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vehicles"][0]["answer"]["name"] == "Rubin Alpha 2012"
    assert told(done.stderr) == []


def test_a_closed_pipe_is_quiet(cli: Any, photos: Path) -> None:
    words = cli.words(*[photos / "car.jpg"] * 60, "--jsonl")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert told(running.stderr.read()) == []
        assert running.wait(timeout=NEVER_S) == 0


def test_ctrl_c_is_one_line(cli: Any, photos: Path) -> None:
    words = cli.words(*[photos / "car.jpg"] * 2000, "--jsonl")
    # A runner in the background ignores SIGINT, and its children inherit that; a person's terminal does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        assert running.stdout is not None
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=NEVER_S)
        assert running.returncode == 130
        assert told(errors) == [b"carspotter: interrupted"]


def test_a_file_name_that_is_no_text_is_printed(cli: Any, photos: Path, program: Program) -> None:
    strange = photos.parent / "strange"
    strange.mkdir()
    target = bytes(strange) + b"/\xff\x1b[31mred.jpg"
    Path(target.decode("utf-8", "surrogateescape")).write_bytes((photos / "car.jpg").read_bytes())
    for form in ([], ["--jsonl"]):
        done = program(cli.words(strange, *form))
        assert done.returncode == 0, done.stderr
        assert b"\x1b[31m" not in done.stdout
        assert b"Rubin Alpha 2012" in done.stdout
