"""The commands of a project as people type them: init, build, status, sql, the steps, and a demo on drawn ads."""

import json
import subprocess
from pathlib import Path

import pytest

from carspotter.cli.project import _TAKES
from carspotter.sources import showroom
from commands import COMMAND, call
from get_started import copy_of
from tiny_project import make_project
from tools.showroom.listings import ShowroomSettings
from tools.showroom.pack import pack
from waiting import NEVER_S


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("cli"))
    code, out, err = call("build", folder, "--workers", 0)
    assert code == 0, err
    assert out.strip() == str(folder / "report.html")
    return folder


def test_build_says_what_each_step_did(project: Path) -> None:
    code, out, err = call("build", project, "--workers", 0, "--json")
    assert code == 0
    assert json.loads(out)["split"]["samples"] == 45
    lines = {line.split()[0]: line for line in err.splitlines()}
    assert lines["locate"].endswith("each decoded once: nothing to do"), "what a step does is said with what it did"
    assert lines["split"] == "split       split without leaks: unchanged", "no figures of a run that was none"
    steps = {name for name, line in lines.items() if line.endswith(": unchanged")}
    assert steps == {"deduplicate", "resolve", "classes", "split", "learn", "shard"}
    shown = call("status", project)[1]
    assert "learn: probe on" in shown


def test_status_prints_the_funnel(project: Path) -> None:
    code, out, _ = call("status", project)
    assert code == 0
    assert "truncated 1" in out
    assert "show a whole vehicle" in out, "each step in words"
    assert "train" in out
    assert "next: " in out
    counted = json.loads(call("status", project, "--json")[1])
    assert counted["photos"] == 53
    assert [stage["name"] for stage in counted["stages"]] == [
        "import",
        "fetch",
        "check",
        "locate",
        "resolve",
        "classes",
        "split",
    ]


def test_sql_answers(project: Path) -> None:
    code, out, _ = call(
        "sql", "SELECT kind, count(*) AS n FROM findings GROUP BY kind ORDER BY n", "--project", project
    )
    assert code == 0
    assert "interior" in out
    rows = json.loads(call("sql", "SELECT count(*) AS n FROM samples", "--project", project, "--json")[1])
    assert rows == [{"n": 46}]
    assert "no rows" in call("sql", "SELECT * FROM listings WHERE false", "--project", project)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sql", "SELECT * FROM lisings", "--project"), "lisings"),
        (("sql", "COPY (SELECT 1) TO 'x.csv'", "--project"), "carspotter: "),
        (("build", "--until", "splti"), "step 'splti' is unknown; did you mean 'split'?"),
        (("build", "--on", "spark"), "allowed: local, ray"),
        (("crawl",), 'no source of kind "crawl"'),
    ],
)
def test_an_error_is_one_line(project: Path, words: tuple[str, ...], message: str) -> None:
    if "spark" in words:  # a step with something to do, or where it runs is never asked
        project = make_project(project / "other")
    code, _, err = call(*words, project)
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("carspotter: ")
    assert message in last


@pytest.mark.parametrize("command", ["build", "status", "check", "locate", "learn", "report"])
def test_a_folder_that_is_no_project_says_how_to_make_one(tmp_path: Path, command: str) -> None:
    code, _, err = call(command, tmp_path)
    assert code == 1
    assert "make a project with: carspotter init" in err


@pytest.mark.parametrize(
    "command",
    ["import", "fetch", "check", "locate", "deduplicate", "resolve", "classes", "split", "learn", "shard", "report"],
)
def test_each_step_is_a_command(project: Path, command: str) -> None:
    code, out, err = call(command, project, "--workers", 0, "--json")
    assert code == 0, err
    assert json.loads(out)


def test_fix_is_told(project: Path) -> None:
    code, _, err = call("check", project, "--fix", "--workers", 0)
    assert code == 0
    assert "saved" in err


def test_init_makes_a_project(tmp_path: Path) -> None:
    (tmp_path / "cars.csv").write_text("ad_id,make,model,submodel,photos\n")
    code, out, _ = call("init", tmp_path / "new", "--from", tmp_path / "cars.csv")
    assert code == 0
    assert f"carspotter build {tmp_path / 'new'}" in out
    assert f"{tmp_path / 'cars.csv'}: there is no ad in its first lines" in out
    code, _, err = call("build", tmp_path / "new", "--until", "import")
    assert (code, "there is no ad in it" in err) == (3, True)
    assert call("init", tmp_path / "new", "--from", tmp_path / "cars.csv")[0] == 1
    assert call("init", tmp_path / "none", "--from", "nowhere.txt")[0] == 1


def test_init_says_what_a_table_lacks_and_makes_the_project(tmp_path: Path) -> None:
    (tmp_path / "cars.csv").write_text("nummer,bild,make\n1,a.jpg,Kia\n")
    code, _, err = call("init", tmp_path / "new", "--from", tmp_path / "cars.csv")
    assert code == 0
    assert 'columns = {ad_id = "nummer"}' in " ".join(err.split())
    assert (tmp_path / "new" / "carspotter.toml").is_file()
    (tmp_path / "cars.csv").write_text("id,image 1,image 2,brand\n1,a.jpg,b.jpg,Kia\n")
    _, out, err = call("init", tmp_path / "other", "--from", tmp_path / "cars.csv")
    assert (f"{tmp_path / 'cars.csv'}: ad_id = id, make = brand, photos = image 1 + image 2" in out, err) == (True, "")


@pytest.mark.parametrize("source", ["nowhere.csv", "nowhere.csv.gz", "nowhere.parquet", "nowhere", "nowhere.xlsx"])
def test_init_makes_no_project_of_what_is_not_there(tmp_path: Path, source: str) -> None:
    code, out, err = call("init", tmp_path / "new", "--from", tmp_path / source)
    assert (code, out) == (1, "")
    assert f"{source}' is not there: no such file or folder" in err
    assert not (tmp_path / "new").exists()


def test_init_makes_no_project_of_a_source_without_a_name(tmp_path: Path) -> None:
    code, _, err = call("init", tmp_path / "new", "--from", "")
    assert (code, "an argument is empty" in err) == (2, True)
    assert not (tmp_path / "new").exists()


def test_init_unpacks_the_showroom_into_the_project(tmp_path: Path) -> None:
    assert call("init", tmp_path / "new", "--from", "showroom")[0] == 0
    code, out, err = call("build", tmp_path / "new", "--until", "fetch", "--json")
    assert code == 0, err
    assert json.loads(out)["import"] == {"listings": 100, "photos": 505}
    (tmp_path / "mine" / "showroom" / "photos").mkdir(parents=True)
    code, _, err = call("init", tmp_path / "mine", "--from", "showroom")
    assert (code, "has photos of its own" in err) == (1, True)
    assert not (tmp_path / "mine" / "carspotter.toml").exists()


def test_the_demo_finds_what_was_planted(showroom_walk: Path, tmp_path: Path) -> None:
    folder = copy_of(showroom_walk / "my-cars", tmp_path / "demo")
    code, out, err = call("demo", folder, "--workers", 0, "--json")
    assert code == 0, err
    said = json.loads(out)
    flaws = said["flaws"]
    assert min(flaw["planted"] for flaw in flaws.values()) >= 2
    assert sum(flaw["found"] for flaw in flaws.values()) >= 0.95 * sum(flaw["planted"] for flaw in flaws.values())
    good = said["good"]["whole vehicles that pass the gate"]
    assert good["right"] >= 0.98 * good["of"] > 250


def test_a_demo_makes_its_project_and_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "showroom.zip"
    small.write_bytes(pack(ShowroomSettings(ads=3, seed=3, views=2, flaws=2.0)))
    monkeypatch.setattr(showroom, "PACK", small)
    code, out, err = call("demo", tmp_path / "demo", "--workers", 0)
    assert code == 0, err
    photos = _TAKES.partition("with ")[2].partition(":")[0]
    assert photos == "505 photographs"
    assert photos in err, "what it will take is said first"
    assert "interiors and details" in out
    assert str(tmp_path / "demo" / "report.html") in out.replace("\n", "")


def test_the_demo_leaves_a_project_of_somebodys_own_alone(tmp_path: Path) -> None:
    (tmp_path / "cars.csv").write_text("id,make,model,images\n1,Audi,A4,a.jpg\n")
    assert call("init", tmp_path / "mine", "--from", tmp_path / "cars.csv")[0] == 0
    code, _, err = call("demo", tmp_path / "mine", "--workers", 0)
    assert (code, "this project is no demo; run `carspotter demo` with a new folder" in err) == (1, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["carspotter.toml"], "nothing was built"


def test_a_build_runs_as_a_program_with_workers(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "program")
    words = [*COMMAND, "build", str(folder), "--until", "locate", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=NEVER_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["locate"]["done"] == 50
