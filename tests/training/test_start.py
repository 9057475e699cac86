"""Starting from a bundle: its weights come back out of the exported file, for networks of either task, offline."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from finder_drawings import write_photos

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("onnx", reason="a bundle's weights are read with the extra `train`")
pytest.importorskip("onnxscript", reason="exporting needs the extra `export`")

import timm  # noqa: E402  # after the skips

from carspotter.errors import RecipeError  # noqa: E402
from carspotter.export.onnx import export  # noqa: E402
from carspotter.runtime.bundle import ModelBundle, shipped  # noqa: E402
from carspotter.taxonomy import Taxon, Taxonomy  # noqa: E402
from carspotter.training.checkpoint import BEST, load_checkpoint  # noqa: E402
from carspotter.training.finder.task import FinderTask  # noqa: E402
from carspotter.training.identifier.model import Identifier, build_identifier  # noqa: E402
from carspotter.training.identifier.task import IdentifierTask  # noqa: E402
from carspotter.training.norms import are_folded, fuse_norms  # noqa: E402
from carspotter.training.recipe_file import load_recipe  # noqa: E402
from carspotter.training.run import train  # noqa: E402
from carspotter.training.start import Start, notice_of, open_start, read_weights, take_backbone, take_classes  # noqa: E402
from carspotter.training.task import LOG  # noqa: E402

ONE_EPOCH = "phases=[{epochs=1, width=32, height=32}]"
FIXED = "model.norms=fixed"
NO_FILE = "model.weights=nowhere.safetensors"
"""What starts from a bundle looks for no other weights."""
MOBILE = "model.backbone=tf_mobilenetv3_small_100"


@pytest.fixture(scope="module")
def bundle(tiny_exported: Path) -> ModelBundle:
    return ModelBundle.load(tiny_exported)


@pytest.fixture(scope="module")
def finder_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("finder"))


def features(model: Identifier) -> np.ndarray:
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        return model.eval().embed(pixels).numpy()


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether features agree as far as weights of float16 let them."""
    return bool(np.allclose(found, wanted, rtol=0.02, atol=0.02 * np.abs(wanted).max()))


def test_an_identifier_starts_with_the_features_and_classes_of_a_bundle(bundle: ModelBundle, tiny_run: Path) -> None:
    task = IdentifierTask(load_recipe(tiny_run / "recipe.json", [f"model.start={bundle.folder}", FIXED]))
    model, trained = task.build_model(), task.build_model(blank=True)
    trained.load_state_dict(load_checkpoint(tiny_run / BEST).averaged)
    assert not close(features(task.build_model(blank=True)), features(trained)), "random weights must not pass"
    assert close(features(model), features(trained))
    assert np.allclose(model.head.weight.detach(), trained.head.weight.detach(), atol=1e-3)
    assert are_folded(model.backbone)


@pytest.mark.slow
def test_a_backbone_that_squeezes_and_ends_in_a_convolution_comes_back_whole(drawn_data: Path, tmp_path: Path) -> None:
    train(drawn_data / "recipe.toml", [ONE_EPOCH, MOBILE], tmp_path / "run")
    told = export(tmp_path / "run", tmp_path / "bundle")
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", [f"model.start={told.folder}", MOBILE, FIXED]))
    model, trained = task.build_model(), task.build_model(blank=True)
    trained.load_state_dict(load_checkpoint(tmp_path / "run" / BEST).averaged)
    assert close(features(model), features(trained))
    assert open_start(task.recipe).classes == told.taxonomy


def test_training_goes_on_from_a_bundle_and_what_its_card_must_repeat_goes_along(
    bundle: ModelBundle, drawn_data: Path, tmp_path: Path
) -> None:
    source = dataclasses.replace(bundle, card={**bundle.card, "notice": "Copyright Ann"})
    source.save(tmp_path / "bundle", bundle.model_path.read_bytes())
    train(drawn_data / "recipe.toml", [f"model.start={tmp_path / 'bundle'}", FIXED, ONE_EPOCH], tmp_path / "first")
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", [f"model.start={tmp_path / 'first'}", FIXED]))
    assert are_folded(task.build_model().backbone), "statistics stood still"
    train(drawn_data / "recipe.toml", [f"model.start={tmp_path / 'first'}", FIXED, ONE_EPOCH], tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    told = export(tmp_path / "second", tmp_path / "told")
    assert told.card["notice"] == "Copyright Ann"
    assert (told.folder / "CARD.md").read_text().rstrip().endswith("## Notice\n\nCopyright Ann")
    (tmp_path / "own.txt").write_text("Copyright Bob")
    changes = [f"model.start={tmp_path / 'second'}", f"card.notice={tmp_path / 'own.txt'}"]
    assert notice_of(load_recipe(drawn_data / "recipe.toml", changes)) == "Copyright Bob"
    with pytest.raises(RecipeError, match=r"card\.notice"):
        notice_of(load_recipe(drawn_data / "recipe.toml", ["card.notice=nowhere.txt"]))


def test_folded_norms_must_be_fixed(bundle: ModelBundle, drawn_data: Path) -> None:
    changes = [f"model.start={bundle.folder}"]
    with pytest.raises(RecipeError, match=r'set model\.norms = "fixed"'):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()
    head_only = load_recipe(drawn_data / "recipe.toml", [*changes, "model.layers=head"])
    assert are_folded(IdentifierTask(head_only).build_model().backbone)


def test_a_finder_starts_from_an_identifier_and_an_identifier_from_a_finder(
    bundle: ModelBundle, drawn_data: Path, finder_recipe: Path, tmp_path: Path
) -> None:
    task = FinderTask(load_recipe(finder_recipe, [f"model.start={bundle.folder}", FIXED, "train.batch=4"]))
    finder = task.build_model()
    start = open_start(task.recipe)
    assert torch.equal(finder.backbone.conv_stem.weight, start.weights["backbone.conv_stem.weight"])
    task.loss(finder.train(), next(task.batches(task.recipe.phases[0], 0, 0))).backward()

    short = f"phases=[{{epochs=1, width={task.recipe.phases[0].width}, height={task.recipe.phases[0].height}}}]"
    train(finder_recipe, [short], tmp_path / "finder")
    told = export(tmp_path / "finder", tmp_path / "bundle")
    changes = [f"model.start={told.folder}", FIXED]
    model = IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()
    weights = read_weights(told.model_path)
    assert torch.equal(model.backbone.conv_stem.weight, weights["backbone.conv_stem.weight"])

    again = FinderTask(load_recipe(finder_recipe, changes)).build_model().eval()
    trained = FinderTask(load_recipe(finder_recipe)).build_model(blank=True).eval()
    trained.load_state_dict(load_checkpoint(tmp_path / "finder" / BEST).averaged)
    pixels = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        for found, wanted in zip(again(pixels), trained(pixels), strict=True):
            assert torch.allclose(found, wanted, atol=0.02 * float(wanted.abs().max()))


class _Network(torch.nn.Module):
    """The backbone that ships, as a finder has it without what classifies alone."""

    def __init__(self, *, classifies: bool) -> None:
        super().__init__()
        self.backbone = timm.create_model("tf_mobilenetv3_small_100", num_classes=0)
        if not classifies:
            self.backbone.conv_head = torch.nn.Identity()

    def folded(self) -> Start:
        weights = fuse_norms(self).state_dict()
        return Start(place="x", task="identifier", weights=weights, is_folded=True, classes=None)


def test_a_finder_may_leave_out_what_only_classifies(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for classifies in (True, False):
            source, target = _Network(classifies=classifies).eval(), _Network(classifies=not classifies).eval()
            take_backbone(target, source.folded())
            wanted = source.backbone.forward_features(pixels)
            assert wanted.abs().max() > 0
            assert torch.allclose(
                target.backbone.forward_features(pixels), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())
            )
    assert "has no backbone.conv_head.bias, backbone.conv_head.weight" in caplog.text


def test_another_backbone_is_refused(bundle: ModelBundle, drawn_data: Path) -> None:
    for backbone in ("test_resnet", "test_efficientnet_ln"):
        changes = [f"model.start={bundle.folder}", f"model.backbone={backbone}", FIXED]
        with pytest.raises(RecipeError, match=r"model\.start: .* has another"):
            IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()


def test_what_holds_no_weights_is_refused(bundle: ModelBundle, drawn_data: Path, tmp_path: Path) -> None:
    small = dataclasses.replace(bundle, precision="int8").save(tmp_path / "int8", bundle.model_path.read_bytes())
    with pytest.raises(RecipeError, match=r"holds model\.onnx in int8; name the float32 one"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", [f"model.start={small.folder}"])).build_model()


def test_a_class_starts_from_the_deepest_one_above_it() -> None:
    theirs = Taxonomy(
        (Taxon(make="Audi"), Taxon(make="Audi", model="A4"), Taxon(make="Opel", model="Corsa", body="Hatchback")),
        {"Vauxhall": "Opel"},
    )
    ours = Taxonomy(
        (
            Taxon(make="Vauxhall", model="Corsa"),
            Taxon(make="Audi", model="A4", year=2012),
            Taxon(make="Audi", model="A6"),
            Taxon(make="Saab"),
            Taxon(make="Opel", model="Astra"),
        )
    )
    weight, bias = torch.arange(6.0).reshape(3, 2) + 1, torch.arange(3.0) + 1
    start = Start(
        place="x", task="identifier", weights={"head.weight": weight, "head.bias": bias}, is_folded=True, classes=theirs
    )
    head = torch.nn.Linear(2, 5)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    assert take_classes(head, start, ours) == 3
    assert head.bias.tolist() == [3, 2, 1, 0, 0]
    assert head.weight[0].tolist() == weight[2].tolist()


def test_own_photos_start_from_the_shipped_identifier_without_a_network(
    drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise OSError("there is no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("CARSPOTTER_WEIGHTS", str(tmp_path))
    changes = [
        f"data.labels={drawn_data / 'photos' / 'labels.csv'}",
        f"data.taxonomy={drawn_data / 'taxonomy.csv'}",
        f"model.backbone={shipped('identifier').card['recipe']['backbone']}",
        "train.precision=float32",
        "train.batch=16",
        "train.threads=1",
        "phases=[{epochs=1, width=64, height=64}]",
    ]
    train("fine-tune", changes, tmp_path / "run")
    assert json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])["epoch"] == 1


def test_a_shipped_bundle_is_named_by_its_task(drawn_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "carspotter.training.start")
    source = shipped("identifier")
    backbone = source.card["recipe"]["backbone"]
    recipe = load_recipe(
        drawn_data / "recipe.toml", ["model.start=identifier", f"model.backbone={backbone}", FIXED, NO_FILE]
    )
    taxonomy = Taxonomy((Taxon(make="BMW"), source.taxonomy.classes[0]))
    model = build_identifier(recipe, taxonomy, {}).eval()
    assert torch.equal(model.head.weight[1], open_start(recipe).weights["head.weight"][0])
    size = source.preprocessing
    image = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), dtype=np.uint8)
    with torch.inference_mode():
        found = model.embed(torch.from_numpy(image).permute(0, 3, 1, 2).float())
    wanted = source.open_session("onnxruntime", threads=1).run(image)["embedding"]
    assert np.allclose(torch.nn.functional.normalize(found, dim=1), wanted, atol=2e-3)
    assert "classes start from those of" in caplog.text
