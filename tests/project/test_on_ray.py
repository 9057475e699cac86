"""A build whose row stages run on Ray: the tables and, byte for byte, the shards of a build in this process."""

import subprocess
from pathlib import Path

import pytest

import tiny_project
from carspotter.project.folder import Project
from carspotter.project.pipeline import build
from commands import COMMAND

TABLES = ("files", "checks", "findings", "embeddings", "duplicates", "labels", "classes", "samples")


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def statuses(folder: Path) -> dict[str, list[dict[str, str]]]:
    with Project.open(folder).catalog() as catalog:
        return {
            table: catalog.rows(f"SELECT COLUMNS('^(photo_id|ad_id|taxon|status)$') FROM {table} ORDER BY ALL")
            for table in TABLES
        }


@pytest.mark.slow
def test_a_build_on_ray_gives_the_same_tables_and_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(tiny_project, "ADS_PER_MODEL", 8)  # 72 photos: a batch for each of two actors
    here, there = (tiny_project.make_project(tmp_path / name) for name in ("here", "there"))
    build(Project.open(here), until="shard", workers=0)
    # In a fresh interpreter: Ray's threads stay out of this one.
    command = [*COMMAND, "build", str(there), "--until", "shard", "--on", "ray"]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert statuses(there) == statuses(here)
    assert len([name for name in shards(here) if name.endswith(".tar")]) > 3
    assert shards(there) == shards(here)
