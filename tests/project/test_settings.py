"""carspotter.toml: what it may say, what it must not, and the text that `init` writes."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from carspotter.errors import ProjectError
from carspotter.project.folder import Project, create
from carspotter.project.settings import (
    FILE,
    KnownSource,
    ProjectSettings,
    known_sources,
    load_settings,
    mistakable,
    remember,
    remembered,
)
from carspotter.project.template import settings_text


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "carspotter.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[locat]", r"carspotter.toml: unknown key 'locat'; did you mean 'locate'\?"),
        ("[locate]\ngaet = 0.5", r"locate: unknown key 'gaet'; did you mean 'gate'\?"),
        ("[locate]\nprecision = 'float3'", "locate: precision is 'float3'; did you mean 'float32'?"),
        ("[locate]\ngate = 1.5", "locate: gate is 1.5; it must be from 0 to 1"),
        ("[split]\ntrain = 0.9", "split: train, validation and test add up to 1.2"),
        ('[classes]\nlevel = "modle"', r"classes: level: 'modle' is not possible; did you mean 'model'\?"),
        ("[learn]\nname = 'Trained'", "learn: name is 'Trained', the bundle that `carspotter train` writes"),
        ("name = 3", "name: expected a text, got 3"),
        ("[sources]\nkind = 'table'", r"sources is a table; write \[\[sources\]\]"),
        ("[[sources]]\npath = 'x'", r"sources\[0\]: kind must be given; allowed: table, folders"),
        ("[[sources]]\nkind = 'tabel'", r"kind 'tabel' is unknown; did you mean 'table'\?"),
        ("[[sources]]\nkind = 'table'", r"sources\[0\]: path must be given"),
        ("[[sources]]\nkind = 'showroom'\nads = 9", "its ads are a table now; make the project anew in another folder"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        load_settings(written(tmp_path, text))


def test_nothing_said_is_all_defaults(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "")) == ProjectSettings()


def test_a_folder_without_settings_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"make a project with: carspotter init .* --from TABLE_OR_PHOTOS$"):
        Project.open(tmp_path)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("cars.csv", "table"),
        ("https://host/cars.parquet?key=1", "table"),
        ("pictures", "folders"),
        ("s3://bucket/photos", "folders"),
        ("https://cars.example/search", "crawl"),
        ("showroom", "table"),
    ],
)
def test_init_guesses_the_kind_of_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    text = settings_text(Path("project"), [source])
    if kind == "crawl":
        text = text.replace('contact = ""', 'contact = "me@example.com"')
    project = create(Path("project"), text)
    assert [found.kind for found in project.settings.sources] == [kind]
    if source in ("cars.csv", "pictures"):
        assert project.path(project.settings.sources[0].settings.path) == str(tmp_path / "project" / ".." / source)


def test_what_the_template_comments_out_is_the_default(tmp_path: Path) -> None:
    text = settings_text(tmp_path, ["cars.csv"])
    text = re.sub(r"^# columns = .*\n# photos = .*\n", "", text, flags=re.MULTILINE)
    spoken = re.sub(r"^# (\w+ = (?:\[[^\]]*\]|[^#\n]*))", r"\1", text, flags=re.MULTILINE)
    spoken = re.sub(r"^(?:finder|identifier) = .*$", "", spoken, flags=re.MULTILINE)
    settings = load_settings(written(tmp_path, spoken))
    plain = ProjectSettings(name=settings.name, sources=settings.sources)
    assert dataclasses.asdict(settings) == dataclasses.asdict(plain)


def test_init_does_not_overwrite(tmp_path: Path) -> None:
    create(tmp_path, settings_text(tmp_path, ["showroom"]))
    with pytest.raises(ProjectError, match="is there already"):
        create(tmp_path, settings_text(tmp_path, ["showroom"]))


def test_a_source_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="source 'nowhere' is neither a table"):
        settings_text(tmp_path, ["nowhere"])


@pytest.mark.parametrize(("inner", "photos"), [("", None), ("devkit", "..")])
def test_init_knows_the_official_files_of_stanford_cars(tmp_path: Path, inner: str, photos: str | None) -> None:
    (tmp_path / "cars" / inner).mkdir(parents=True)
    (tmp_path / "cars" / inner / "cars_meta.mat").touch()
    project = create(tmp_path / "p", settings_text(tmp_path / "p", [str(tmp_path / "cars" / inner)]))
    (source,) = project.settings.sources
    assert (source.kind, source.settings.photos) == ("stanford", photos)
    assert "cars_meta" not in settings_text(tmp_path / "p", [str(tmp_path / "cars")])


def test_init_refuses_a_name_that_no_settings_can_hold(tmp_path: Path) -> None:
    for folder, source in (("p", b"caf\xe9.csv"), (os.fsdecode(b"caf\xe9"), b"cars.csv")):
        with pytest.raises(ProjectError, match=r"caf\\udce9(\.csv)?' is not UTF-8"):
            settings_text(tmp_path / folder, [os.fsdecode(source)])


def test_init_names_a_link_and_not_where_it_leads_today(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "2026-01-01.csv").touch()
    (tmp_path / "latest.csv").symlink_to(tmp_path / "real" / "2026-01-01.csv")
    (tmp_path / "here").symlink_to(tmp_path / "real", target_is_directory=True)
    for source, path in (("latest.csv", "../latest.csv"), ("here/2026-01-01.csv", "../real/2026-01-01.csv")):
        folder = tmp_path / f"project-{source[:4]}"
        project = create(folder, settings_text(folder, [str(tmp_path / source)]))
        assert project.settings.sources[0].settings.path == path


def test_init_refuses_a_workbook(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="is a workbook; export it as CSV"):
        settings_text(tmp_path, ["cars.xlsx"])


def known_of(folder: Path, *tables: str) -> list[KnownSource]:
    """Read a project of some tables, and remember them."""
    text = "".join(f'[[sources]]\nkind = "table"\npath = "{table}"\n' for table in tables)
    known = known_sources(folder, load_settings(written(folder, text)).sources)
    remember(folder, known, {source.prefix for source in known})
    return known


def test_a_new_source_has_no_ids_of_one_that_was_renamed(tmp_path: Path) -> None:
    for tables in (["a.csv", "x/b.csv"], ["a.csv", "x/c.csv"], ["a.csv", "x/c.csv", "y/b.csv"]):
        known = known_of(tmp_path, *tables)
    assert [source.prefix for source in known] == ["", "table:b.csv:", "table:y/b.csv:"]


def test_sources_that_moved_together_keep_their_ids(tmp_path: Path) -> None:
    before = known_of(tmp_path, "../export/a.csv", "../export/b.csv")
    after = known_of(tmp_path, "../data/b.csv", "../data/a.csv")
    assert [source.prefix for source in after] == [source.prefix for source in reversed(before)]
    assert mistakable(before, after) == []
    others = known_of(tmp_path, "../data/c.csv?key=1", "../data/d.csv")
    assert not {source.prefix for source in others} & {source.prefix for source in before}
    (said,) = mistakable(after, others)
    assert "d.csv are new and ../data/b.csv, ../data/a.csv gone" in said


@pytest.mark.parametrize("odd", ['[{"kind": "table", "pl', '[{"kind": "table", "later": 1}]', "5", "\xff"])
def test_what_sources_were_known_as_is_not_lost_in_silence(tmp_path: Path, odd: str) -> None:
    assert remembered(tmp_path) == []
    (tmp_path / FILE).write_text(odd, encoding="latin-1")
    with pytest.raises(ProjectError, match=r"sources\.json cannot be read: .*; put back the one of before"):
        known_of(tmp_path, "a.csv")
    assert (tmp_path / FILE).read_text(encoding="latin-1") == odd
