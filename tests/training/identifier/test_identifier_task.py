"""What a recipe can ask of the identifier beside its classes: further heads, mixing, teachers, starts, layers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from carspotter.errors import RecipeError, TrainingError
from carspotter.evaluation.predictions import Predictions
from carspotter.taxonomy import Taxon, Taxonomy
from carspotter.training.checkpoint import BEST, LAST, load_checkpoint
from carspotter.training.identifier.data import load_taxonomy
from carspotter.training.identifier.mixing import mix
from carspotter.training.identifier.targets import Nodes, mirrored
from carspotter.training.identifier.task import IdentifierTask, predict
from carspotter.training.identifier.teachers import Teacher, open_teachers
from carspotter.training.plan import measure
from carspotter.training.recipe import AugmentSettings
from carspotter.training.recipe_file import load_recipe
from carspotter.training.run import train
from carspotter.training.task import LOG
from carspotter.training.trainer import Training

SHORT = "phases=[{epochs=6, width=48, height=48}]"


def rewritten(drawn_data: Path, folder: Path, **columns: object) -> str:
    """Write the labels anew with more columns, each a function of the row, and return the change of the recipe."""
    with (drawn_data / "photos" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["path"] = str((drawn_data / "photos" / row["path"]).resolve())
        row |= {name: make(row) for name, make in columns.items()}  # type: ignore[operator]
    target = folder / "labels.csv"
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return f"data.labels={target}"


def test_photos_of_which_only_the_make_is_known_help(drawn_data: Path, tmp_path: Path) -> None:
    # Of every second photo only the make is known: its class may be either of two.
    def class_id(row: dict[str, str]) -> str:
        return row["class_id"] if int(Path(row["path"]).stem) % 8 < 4 else ""

    make = {"1": "Round", "2": "Round", "3": "Flat", "4": "Flat"}
    with (drawn_data / "photos" / "labels.csv").open() as file:
        truth = {Path(row["path"]).stem: row["class_id"] for row in csv.DictReader(file)}
    labels = rewritten(drawn_data, tmp_path, class_id=class_id, make=lambda row: make[truth[Path(row["path"]).stem]])
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml", [labels]))
    assert set(task.photos.some().targets.tolist()) == set(range(6))  # four classes, two makes
    assert task.members[4:].sum(1).tolist() == [2, 2]
    train(drawn_data / "recipe.toml", [labels, "phases=[{epochs=14, width=48, height=48}]"], tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert max(line["make"] for line in lines) >= 0.75  # chance: 0.5


def test_a_further_head_learns_from_the_photos_that_are_labelled(drawn_data: Path, tmp_path: Path) -> None:
    def colour(row: dict[str, str]) -> str:
        return {"1": "red", "2": "blue", "3": "red", "4": ""}[row["class_id"]]

    labels = rewritten(drawn_data, tmp_path, colour=colour)
    train(drawn_data / "recipe.toml", [labels, SHORT, "model.heads=['colour']"], tmp_path / "run")
    last = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    assert last["head colour"] >= 0.8
    saved = load_checkpoint(tmp_path / "run" / BEST).averaged
    assert saved["heads.head_colour.weight"].shape[0] == 2


def test_left_and_right_change_places_in_a_mirrored_photo() -> None:
    names = ("back", "back-left", "back-right", "front-left", "front-right", "left", "right", "side")
    swapped = [names[i] for i in mirrored(names)]
    assert swapped == ["back", "back-right", "back-left", "front-right", "front-left", "right", "left", "side"]
    with pytest.raises(RecipeError, match=r"set augment\.flip=0"):
        mirrored(("front", "left"))


@pytest.mark.parametrize("settings", [AugmentSettings(mixup=0.4), AugmentSettings(cutmix=1.0)])
def test_shares_of_mixed_photos_are_true(settings: AugmentSettings) -> None:
    generator = torch.Generator().manual_seed(3)
    shares = []
    for _ in range(40):
        pixels = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 20, 30).clone()
        mixed = mix(pixels, settings, generator)
        # Each photo is a plain area of its own number, so that its mean tells how much of it is left.
        wanted = mixed.share * torch.arange(4.0) + (1 - mixed.share) * mixed.partner
        assert torch.allclose(mixed.pixels.mean((1, 2, 3)), wanted, atol=1e-4)
        shares.append(float(mixed.share[0]))
    assert 0 <= min(shares) < 0.5 < 0.8 < max(shares) <= 1  # a window that leaves the picture pastes less


def test_without_mixing_each_photo_is_itself() -> None:
    pixels = torch.rand(4, 3, 8, 8)
    mixed = mix(pixels.clone(), AugmentSettings(), torch.Generator())
    assert torch.equal(mixed.pixels, pixels)
    assert mixed.share.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        ["augment.mixup=0.4", "train.class_weights=0.5", "augment.randaugment=2"],
        ["augment.cutmix=1.0", "train.logit_adjustment=1.0", "train.balance=1.0"],
        *(
            pytest.param([each], marks=pytest.mark.slow)
            for each in (
                "augment.mixup=0.4",
                "augment.cutmix=1.0",
                "train.logit_adjustment=1.0",
                "train.class_weights=0.5",
                "train.balance=1.0",
                "augment.randaugment=2",
            )
        ),
    ],
    ids=",".join,
)
def test_each_lever_learns(drawn_data: Path, tmp_path: Path, changes: list[str]) -> None:
    longer = "phases=[{epochs=8, width=48, height=48}]"
    train(drawn_data / "recipe.toml", [longer, *changes], tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert max(line["top1"] for line in lines) >= 0.5  # chance: 0.25


def test_a_student_follows_its_teachers(tiny_run: Path, drawn_data: Path, tmp_path: Path) -> None:
    teacher = Path(shutil.copytree(tiny_run, tmp_path / "teacher"))
    saved = load_checkpoint(teacher / BEST)
    saved.averaged["head.weight"].zero_()
    saved.averaged["head.bias"].copy_(torch.tensor([0, 0, 9, 0]))  # a teacher that always says the third class
    saved.save(teacher / BEST)
    train(
        drawn_data / "recipe.toml", [SHORT, f"data.teachers=['{teacher}']", "train.distill=1.0"], tmp_path / "student"
    )
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml"))
    student = task.build_model()
    student.load_state_dict(load_checkpoint(tmp_path / "student" / LAST).averaged)
    assert (predict(student, task.holdout.images)[0].argmax(1) == 2).float().mean() > 0.9


def test_teachers_are_asked_together_and_in_our_order_of_classes(
    tiny_run: Path, drawn_data: Path, tmp_path: Path
) -> None:
    train(drawn_data / "recipe.toml", ["phases=[{epochs=2, width=48, height=48}]", "seed=2"], tmp_path / "other")
    header, *rows = (drawn_data / "taxonomy.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    runs = [str(tiny_run), str(tmp_path / "other")]
    changes = [f"data.taxonomy={tmp_path / 'turned.csv'}", f"data.teachers={runs}"]
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    side = recipe.input.height
    pixels = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    taxonomy = IdentifierTask(recipe).taxonomy
    said = Teacher(open_teachers(recipe, taxonomy), len(taxonomy))(pixels)
    alone = []
    for run in runs:
        network = IdentifierTask(load_recipe(Path(run) / "recipe.json")).build_model(blank=True).eval()
        network.load_state_dict(load_checkpoint(Path(run) / BEST).kept)
        alone.append(network(pixels)[0].softmax(1))
    assert torch.allclose(said, torch.stack(alone).mean(0).flip(1), atol=1e-4)


def test_a_teacher_of_other_classes_is_refused(tiny_run: Path, drawn_data: Path, tmp_path: Path) -> None:
    (tmp_path / "others.csv").write_text("class_id,make,model\n" + "".join(f"{n},Other,M{n}\n" for n in range(1, 5)))
    changes = [f"data.taxonomy={tmp_path / 'others.csv'}", f"data.teachers=['{tiny_run}']"]
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    with pytest.raises(RecipeError, match="none of the classes"):
        open_teachers(recipe, load_taxonomy(tmp_path / "others.csv")[0])


def test_a_run_can_go_on_from_another_with_more_classes(tiny_run: Path, drawn_data: Path, tmp_path: Path) -> None:
    classes = (drawn_data / "taxonomy.csv").read_text().splitlines()
    header, *rest = classes
    odd = ",".join({"class_id": "5", "make": "Square", "model": "Red"}.get(name, "") for name in header.split(","))
    (tmp_path / "classes.csv").write_text("\n".join([header, odd, *rest]) + "\n")
    changes = [f"data.taxonomy={tmp_path / 'classes.csv'}", f"model.start={tiny_run}"]
    model = IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()
    first = load_checkpoint(tiny_run / BEST).averaged
    assert torch.equal(model.head.weight[1:], first["head.weight"])
    assert torch.equal(model.backbone.conv_stem.weight, first["backbone.conv_stem.weight"])
    with pytest.raises(RecipeError, match="another backbone"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", [*changes, "model.backbone=test_resnet"])).build_model()
    with pytest.raises(TrainingError, match="no checkpoint"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", [f"model.start={tmp_path / 'none'}"])).build_model()


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        ("model.layers=head", ()),
        ("model.layers=last-2", ("backbone.bn2",)),  # the last norm and its activation
        ("model.stages=1", ("backbone.blocks.5", "backbone.conv_head")),
    ],
)
def test_only_the_chosen_layers_learn(drawn_data: Path, tmp_path: Path, change: str, moves: tuple[str, ...]) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml", [change, "phases=[{epochs=1, width=32, height=32}]"])
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.fit()
    moved = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert "head.weight" in moved
    stages = len(training.model.backbone.blocks)
    allowed = tuple(name.replace("blocks.5", f"blocks.{stages - 1}") for name in moves) + (
        ("backbone.bn2",) if moves else ()
    )
    assert all(name.startswith(("head.", *allowed)) for name in moved), moved
    assert not moves or any(name.startswith(allowed) for name in moved)


def test_fixed_norms_keep_their_statistics_and_learn_their_weights(drawn_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        drawn_data / "recipe.toml", ["model.norms=fixed", "phases=[{epochs=1, width=32, height=32, frozen=1}]"]
    )
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.fit()
    moved = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert not [name for name in moved if "running_" in name or "num_batches" in name]
    assert {"backbone.bn2.weight", "backbone.bn2.bias", "backbone.conv_head.weight"} <= moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.layers=last-999"], r"test_efficientnet has \d+ layers: choose fewer"),
        (["model.stages=99"], r"test_efficientnet has \d+ stages"),
        (["model.layers=lats-40"], "did you mean 'last-40'"),
        (["model.layers=last-0"], "did you mean 'last-40'"),
        (["model.layers=head", "model.stages=2"], "set one of the two"),
        (["model.dropout=1"], "from 0 to below 1"),
        (["augment=lihgt"], "did you mean 'light'"),
        (["train.class_weights=ballanced"], "did you mean 'balanced'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(drawn_data: Path, changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()


def test_a_run_of_before_keeps_the_stages_that_it_learnt(drawn_data: Path, tmp_path: Path) -> None:
    said = load_recipe(drawn_data / "recipe.toml").to_dict()
    del said["model"]["stages"]
    said["model"]["layers"] = "last-2"  # two stages, when it was written
    (tmp_path / "recipe.json").write_text(json.dumps(said))
    model = load_recipe(tmp_path / "recipe.json").model
    assert (model.layers, model.stages) == ("all", 2)
    said["model"] |= {"stages": 0}
    (tmp_path / "recipe.json").write_text(json.dumps(said))
    assert load_recipe(tmp_path / "recipe.json").model.layers == "last-2"  # two layers, of a run of now


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "test_byobnet"])
def test_dropout_works_on_every_backbone(drawn_data: Path, backbone: str) -> None:
    def answers(dropout: float, *, learns: bool) -> list[torch.Tensor]:
        size = 160 if backbone == "test_vit" else 64
        changes = [f"model.backbone={backbone}", f"model.dropout={dropout}", "model.layers=head"]
        changes += [f"input.width={size}", f"input.height={size}"]
        changes.append(f"phases=[{{epochs=1, width={size}, height={size}}}]")
        model = IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model().train(learns)
        pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255
        return [model(pixels)[0] for _ in range(2)]

    torch.manual_seed(0)
    assert torch.equal(*answers(0.5, learns=False))
    assert torch.equal(*answers(0.0, learns=True))
    assert not torch.equal(*answers(0.5, learns=True))


def test_balanced_classes_weigh_in_the_loss_as_in_scikit_learn(drawn_data: Path, tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    # Every second photo is said to be of the first class, so that the others are rare.
    labels = rewritten(drawn_data, tmp_path, class_id=lambda row: "1" if int(row["path"][-5]) % 2 else row["class_id"])
    plain, balanced = (
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", [labels, f"train.class_weights={name}"]))
        for name in ("0", "balanced")
    )
    target = torch.from_numpy(plain.photos.some().targets)
    logits = torch.randn(len(target), 4, generator=torch.Generator().manual_seed(0))
    weights = torch.from_numpy(compute_sample_weight("balanced", target.numpy())).float()
    assert len(set(weights.tolist())) > 1
    assert torch.allclose(balanced._of_photos(logits, target), plain._of_photos(logits, target) * weights, rtol=1e-5)


def test_patience_ends_a_training(drawn_data: Path, tmp_path: Path) -> None:
    changes = ["train.lr=1e-9", "train.patience=2", "phases=[{epochs=30, width=32, height=32}]"]
    train(drawn_data / "recipe.toml", changes, tmp_path / "run")
    assert len((tmp_path / "run" / LOG).read_text().splitlines()) < 12


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes."),
    ],
)
def test_running_out_of_memory_says_which_setting_to_lower(
    drawn_data: Path, tmp_path: Path, error: RuntimeError
) -> None:
    recipe = load_recipe(drawn_data / "recipe.toml")
    task = IdentifierTask(recipe)

    def loss(model: torch.nn.Module, batch: object) -> torch.Tensor:
        raise error

    training = Training(recipe, task, tmp_path)
    task.loss = loss  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"out of memory at train\.batch=8 with 32x32 px; lower train\.batch"):
        training.fit()
    with pytest.raises(TrainingError, match=r"train\.batch=8 and 48x48 px needs more memory than there is"):
        measure(task, recipe)


def test_a_node_needs_a_class_in_the_taxonomy(drawn_data: Path) -> None:
    task = IdentifierTask(load_recipe(drawn_data / "recipe.toml"))
    nodes = Nodes(task.taxonomy, {"1": 0})
    assert nodes.of({"class_id": "1", "make": "Nobody"}) == 0
    assert nodes.of({"make": "Round"}) == nodes.of({"make": "Round"}) == 4
    assert nodes.level("make").tolist() == [*task.taxonomy.index("make").tolist(), 0]
    with pytest.raises(RecipeError, match="neither class_id nor make"):
        nodes.of({"model": "Ball"})


@pytest.mark.parametrize(
    ("size", "frozen", "says"), [(160, 1, "has no stages to freeze"), (64, 0, "takes 160x160 px alone, and not 64x64")]
)
def test_what_a_later_phase_cannot_do_is_said_before_the_first(
    drawn_data: Path, size: int, frozen: int, says: str
) -> None:
    phases = f"phases=[{{epochs=1, width=160, height=160}}, {{epochs=1, width={size}, height={size}, frozen={frozen}}}]"
    changes = ["model.backbone=test_vit", "input.width=160", "input.height=160", phases]
    with pytest.raises(RecipeError, match=says):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes)).build_model()


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_stages_of_other_backbones_stand_still(drawn_data: Path, tmp_path: Path, backbone: str) -> None:
    changes = [f"model.backbone={backbone}", "phases=[{epochs=1, width=32, height=32, frozen=2}]"]
    recipe = load_recipe(drawn_data / "recipe.toml", changes)
    training = Training(recipe, IdentifierTask(recipe), tmp_path)
    still = {name for name, weights in training.model.named_parameters() if weights.requires_grad}
    training.fit()
    moves = {name for name, weights in training.model.named_parameters() if weights.requires_grad}
    assert moves < still
    assert any(name.startswith("backbone.") for name in moves)


def test_a_baseline_is_trained_by_its_recipe(drawn_data: Path, tmp_path: Path) -> None:
    message = train(drawn_data / "recipe.toml", ["task=hog", "data.test=test"], tmp_path / "hog")
    assert "top-1" in message
    table = Predictions.load(tmp_path / "hog" / "predictions.parquet")
    assert (table.probabilities.argmax(1) == table.truth).mean() > 0.3  # chance: 0.25; HOG sees no colour
    with pytest.raises(TrainingError, match="holds a training already"):
        train(drawn_data / "recipe.toml", ["task=hog"], tmp_path / "hog")


def test_deep_labels_fit_classes_that_say_less() -> None:
    taxonomy = Taxonomy((Taxon(make="Audi", model="A4"), Taxon(make="Audi", model="A4", year=2012), Taxon(make="Opel")))
    nodes = Nodes(taxonomy, {})
    assert nodes.of({"make": "Audi", "model": "A4", "year": "2013"}) == 0
    # pandas writes a column of years with gaps so: a photo of 2012 must not become one of the class without a year.
    assert nodes.of({"make": "Audi", "model": "A4", "year": "2012.0"}) == nodes.of(
        {"make": "Audi", "model": "A4", "year": "2012"}
    )
    assert nodes.members[nodes.of({"make": "Audi", "model": "A4", "year": "2012.0"})].tolist() == [True, True, False]
    assert nodes.of({"make": "Audi", "model": "A4", "year": "2008-2015"}) == nodes.of({"make": "Audi", "model": "A4"})
    with pytest.raises(RecipeError, match="no class is a 'Audi A6'"):
        nodes.of({"make": "Audi", "model": "A6"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("path,class_id,x1,y1,x2,y2\n{0},1,0,0,n/a,9\n", "cannot be read: box 0, 0, n/a, 9: could not convert"),
        ("path,class_id,x2\n{0},1,9\n", "cannot be read"),
        ("path,class_id\n{0}\n", "more or fewer cells than the header"),
        ("path,class_id\n{0},1,2\n", "more or fewer cells than the header"),
        ("path,make\n{0},Round\n{1},Round\n", "no photo of a known class is held out"),
    ],
)
def test_odd_labels_are_refused_in_a_line(drawn_data: Path, tmp_path: Path, rows: str, message: str) -> None:
    photos = [(drawn_data / "photos" / name).resolve() for name in ("8.png", "9.png")]
    (tmp_path / "labels.csv").write_text("\ufeff" + rows.format(*photos), encoding="utf-8")
    changes = [f"data.labels={tmp_path / 'labels.csv'}", "data.split=''"]
    with pytest.raises(RecipeError, match=message):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", changes))


def test_a_head_needs_a_column_with_two_words(drawn_data: Path) -> None:
    with pytest.raises(RecipeError, match="column 'viewpoin' of the labels has 0 words"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", ["model.heads=['viewpoin']"]))


def test_the_head_that_says_whether_it_is_a_car_needs_that_word(drawn_data: Path, tmp_path: Path) -> None:
    labels = rewritten(drawn_data, tmp_path, subject=lambda row: "vehicle" if row["class_id"] == "1" else "other")
    with pytest.raises(RecipeError, match="the words of 'subject' are other, vehicle; one must be 'car'"):
        IdentifierTask(load_recipe(drawn_data / "recipe.toml", [labels, "model.heads=['subject']"]))


def test_heads_alone_stay_alone_whatever_the_phase_freezes(drawn_data: Path) -> None:
    model = IdentifierTask(load_recipe(drawn_data / "recipe.toml", ["model.layers=head"])).build_model()
    for frozen in (2, 0):
        model.freeze(frozen)
        assert not any(weights.requires_grad for weights in model.backbone.parameters())
