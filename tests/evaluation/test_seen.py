"""Photos that a network has learnt from are found in a test, whatever their files are called, and judged apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carspotter.crops import crop_of
from carspotter.errors import BundleError
from carspotter.evaluation.evaluating import from_labels, predict, write_evaluation
from carspotter.evaluation.metrics import evaluate
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.seen import SEEN_FILE, are_seen, from_bytes, hashes_of, to_bytes


def _picture(seed: int) -> np.ndarray:
    """Draw smooth patches that differ from seed to seed, uint8 (150, 200, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((200, 150), Image.Resampling.BICUBIC))


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> ModelBundle:
    """An identifier that has learnt from pictures 0 to 9."""
    known = ModelBundle.load(bundles["identifier"])
    crops = []
    for seed in range(10):
        Image.fromarray(_picture(seed)).save(tmp_path / "learnt.png")
        crops.append(crop_of((tmp_path / "learnt.png").read_bytes(), known.preprocessing, None))
    seen = replace(known, seen=to_bytes(hashes_of(crops)))
    return seen.save(tmp_path / "bundle", known.model_path.read_bytes())


def test_photos_that_were_learnt_are_found_and_judged_apart(bundle: ModelBundle, tmp_path: Path) -> None:
    assert bundle.taxonomy is not None
    taxon = bundle.taxonomy.classes[0]
    lines = ["path,make,model"]
    for seed in range(5, 15):  # five of them were learnt; all have other names, sizes and compression
        picture = Image.fromarray(_picture(seed)).resize((140, 105))
        picture.save(tmp_path / f"new-{seed}.jpg", quality=60)
        lines.append(f"new-{seed}.jpg,{taxon.make},{taxon.model or ''}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    photos = from_labels(tmp_path / "labels.csv")
    table, _ = predict(ModelBundle.load(tmp_path / "bundle"), photos)
    assert table.about["seen"].tolist() == ["yes"] * 5 + ["no"] * 5
    figures = evaluate(table)
    assert figures.seen is not None
    assert (figures.seen.photos, figures.seen.levels["make"].total) == (5, 5)
    hit, _ = table.right_at("make")
    assert figures.seen.levels["make"].count == hit[5:].sum()
    page = write_evaluation(tmp_path / "out", table, photos, blur=None)
    assert "seems to have learnt from 5 of these photos" in page.read_text()


def test_a_bundle_without_a_list_says_nothing(bundles: dict[str, Path], tmp_path: Path) -> None:
    Image.fromarray(_picture(0)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("path,make\na.png,Audi\n")
    table, _ = predict(ModelBundle.load(bundles["identifier"]), from_labels(tmp_path / "labels.csv"))
    assert "seen" not in table.about


def test_a_cut_list_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "bundle" / SEEN_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BundleError, match="it is cut; copy the folder again"):
        ModelBundle.load(tmp_path / "bundle")


def test_nothing_is_near_an_empty_list() -> None:
    assert are_seen(hashes_of([_picture(0)]), from_bytes(b"")).tolist() == [False]


def test_the_shipped_identifier_says_what_it_has_learnt_from() -> None:
    from carspotter.runtime.bundle import shipped

    assert len(from_bytes(shipped("identifier").seen)) > 18_000
