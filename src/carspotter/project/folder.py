"""The folder of a project: where everything in it lies, its settings, and how a new one is made.

carspotter.toml   settings: the sources and what each step is told
catalog/          tables, appended by every step
photos/           fetched photographs, one folder an ad
quarantine/       files that could not be saved
labels/           decisions.jsonl: what a review decided; words.csv, classes.csv: what people wrote by hand;
                  unresolved.csv, doubts.csv: what they may decide next
shards/           the dataset for training
models/           bundles: the one that a build learned, and `trained`
runs/             what `carspotter train` keeps of a training
report.html
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from carspotter import storage
from carspotter.catalog.catalog import Catalog
from carspotter.errors import ProjectError, typed
from carspotter.project.settings import ProjectSettings, load_settings
from carspotter.runtime.bundle import ModelBundle

SETTINGS = "carspotter.toml"
TRAINED, RESULT = "trained", "result.json"
"""The name of a training's run and bundle, and the file of the run that says which bundle is the better one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project's folder with its settings read."""

    folder: Path
    settings: ProjectSettings

    @classmethod
    def open(cls, folder: str | Path) -> Project:
        """Open a project; raises ProjectError when the folder holds none, or its settings are wrong."""
        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            raise ProjectError(
                f"{folder} holds no {SETTINGS}; "
                f"make a project with: carspotter init {typed(folder)} --from TABLE_OR_PHOTOS"
            )
        folder = folder.resolve()
        settings = load_settings(folder / SETTINGS)
        finder, identifier = _below(folder, settings.locate.finder), _below(folder, settings.locate.identifier)
        own = tuple(_below(folder, name) for name in settings.locate.attributes)
        locate = replace(settings.locate, finder=finder, identifier=identifier, attributes=own)
        return cls(folder=folder, settings=replace(settings, locate=locate))

    def catalog(self) -> Catalog:
        """Open the project's catalogue; use it as a context manager."""
        return Catalog.open(self.folder)

    @property
    def photos(self) -> Path:
        """Return where fetched photographs lie."""
        return self.folder / "photos"

    @property
    def crawl(self) -> Path:
        """Return where crawls keep their journals."""
        return self.folder / "crawl"

    @property
    def quarantine(self) -> Path:
        """Return where files lie that could not be saved."""
        return self.folder / "quarantine"

    @property
    def labels(self) -> Path:
        """Return where the CSV files lie in which people decide."""
        return self.folder / "labels"

    @property
    def shards(self) -> Path:
        """Return where the shards lie."""
        return self.folder / "shards"

    @property
    def models(self) -> Path:
        """Return where learned bundles lie."""
        return self.folder / "models"

    @property
    def run(self) -> Path:
        """Return where the training of the project lies."""
        return self.folder / "runs" / TRAINED

    @property
    def trained(self) -> Path:
        """Return where the trained bundle lies."""
        return self.models / TRAINED

    @property
    def learned(self) -> Path:
        """Return where the bundle lies that a build learned."""
        return self.models / self.settings.learn.name

    def bundle(self) -> Path:
        """Return the folder of the better of both bundles. Raises ProjectError where there is none yet.

        The trained one is taken where it had more photos right and knows the classes that the build learns now.
        """
        trained, learned = ((folder / "bundle.json").is_file() for folder in (self.trained, self.learned))
        if trained and (not learned or (_says_trained(self.run / RESULT) and self._has_same_classes())):
            return self.trained
        if not learned:
            raise ProjectError(
                f"{self.folder} has no bundle yet; make one with: carspotter build {self.folder}, and another with: "
                f"carspotter train {self.folder}"
            )
        return self.learned

    def _has_same_classes(self) -> bool:
        """Return whether both bundles answer the same classes; a build may have found more since the training."""
        both = [ModelBundle.load(folder).taxonomy for folder in (self.trained, self.learned)]
        return len({frozenset(each.classes) if each else None for each in both}) == 1

    @property
    def predictions(self) -> Path:
        """Return the table of what the learned bundle says of the photos that it did not learn from."""
        return self.learned / "predictions.parquet"

    @property
    def report(self) -> Path:
        """Return the path of the report."""
        return self.folder / "report.html"

    def path(self, name: str) -> str:
        """Resolve a path of the settings against the project's folder; a URL stays as it is."""
        return _below(self.folder, name)


def _below(folder: Path, name: str) -> str:
    return name if not name or storage.is_url(name) else str(folder / os.path.expanduser(name))  # noqa: PTH111  # Path's raises where there is no such user


def bundle_folder(folder: str | Path) -> str:
    """Return the folder of a bundle: that of a project is the better of its own, any other is one itself.

    Raises ProjectError for a project without a bundle.
    """
    is_project = (Path(folder) / SETTINGS).is_file()
    return str(Project.open(folder).bundle() if is_project else folder)


def _says_trained(result: Path) -> bool:
    try:
        said = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("chosen") == TRAINED


def create(folder: str | Path, settings: str) -> Project:
    """Make a project with the text of its settings; raises ProjectError when one is there, or the text is wrong."""
    folder = Path(folder)
    if (folder / SETTINGS).exists():
        raise ProjectError(f"{folder / SETTINGS} is there already; change it by hand, or name another folder")
    storage.write(folder / SETTINGS, settings.encode())
    try:
        return Project.open(folder)
    except ProjectError:
        (folder / SETTINGS).unlink()
        raise
