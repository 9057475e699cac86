"""The finder's manifest, and how its photos vary: labels go where the pixels go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carspotter.errors import TrainingError
from carspotter.geometry import iou_matrix
from carspotter.pixels import Preprocessing, network_input
from carspotter.records import KINDS, VIEWPOINTS
from carspotter.training.finder.augment import SMALLEST, UNKNOWN_KIND, Variation, place, recolor, turn
from carspotter.training.finder.data import LabelledPhoto, flip_views, load, read_manifest, view_mask
from carspotter.training.finder.masks import cut_out_mask, mask_box
from carspotter.training.finder.scenes import on_another_color, parked_row, pasted_scene, plain_background, side_by_side
from finder_drawings import drawn_photo, write_photos

HEADER = "path,kind,viewpoint,x1,y1,x2,y2,ignore\n"


def photo_of(box: tuple[int, int, int, int], view: str = "left", seed: int = 0) -> LabelledPhoto:
    return LabelledPhoto(
        path="drawn",
        part="train",
        source="ads",
        kind=KINDS.index("exterior"),
        boxes=np.array([box], dtype=np.float32),
        views=view_mask(view)[None],
        ignore=np.zeros(1, dtype=bool),
        pixels=drawn_photo(box, view, np.random.default_rng(seed)),
    )


def red_box(pixels: np.ndarray) -> np.ndarray:
    """Return the box of all that is red or dark, as drawn vehicles are."""
    values = pixels.astype(int)
    y, x = np.nonzero((values[..., 0] - values[..., 1] > 60) | (values.max(axis=2) < 60))
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def test_a_manifest_gives_photos_with_all_their_vehicles(tmp_path: Path) -> None:
    rows = (
        "a.jpg,exterior,front-side,1,2,30,40,0\na.jpg,exterior,,5,5,9,9,1\nb.jpg,interior,,,,,,\nc.jpg,detail,,,,,,\n"
    )
    (tmp_path / "m.csv").write_text(HEADER + rows)
    two, none, unknown = read_manifest(tmp_path / "m.csv")
    assert two.boxes.tolist() == [[1, 2, 30, 40], [5, 5, 9, 9]]
    assert two.ignore.tolist() == [False, True]
    assert [VIEWPOINTS[k] for k in np.flatnonzero(two.views[0])] == ["front-right", "front-left"]
    assert (two.part, two.source) == ("train", "photos")
    assert (none.boxes_known, unknown.boxes_known, two.boxes_known) == (True, False, True)


def test_a_manifest_as_pandas_writes_it_is_read_alike(tmp_path: Path) -> None:
    rows = (
        "a.jpg,exterior,front,1,2,30,40,0.0,train\na.jpg,exterior,front,5,5,9,9,1.0,\n"
        "b.jpg,exterior,front,5,5,9,9,True,\nc.jpg,exterior,front,5,5,9,9,False,report\n"
    )
    (tmp_path / "m.csv").write_text(HEADER.strip() + ",part\n" + rows)
    first, second = read_manifest(tmp_path / "m.csv", parts=("train", "choose"))
    assert [each.tolist() for each in (first.ignore, second.ignore)] == [[False, True], [True]]
    assert (second.path, second.part) == ("b.jpg", "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a.jpg,exterior,front,1,2,3,4,maybe\n", "m.csv:2: ignore is 'maybe'; allowed: 0, 0.0, false, 1,"),
        ("path,kind\na.jpg,exterior\n", "column 'viewpoint' is missing"),
        (HEADER + "a.jpg,exteriour,,,,,,\n", "exterior"),
        (HEADER + "a.jpg,exterior,fron,1,2,3,4,0\n", "front"),
        (HEADER + "a.jpg,exterior,front,1,2,x,4,0\n", "four numbers"),
        (HEADER + "a.jpg,exterior,front,3,2,1,4,0\n", "x2 and y2 must not be less"),
    ],
)
def test_a_wrong_manifest_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_a_missing_manifest_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")


def test_loading_shrinks_pixels_and_boxes_alike(tmp_path: Path) -> None:
    write_photos(tmp_path, 4)
    first = read_manifest(tmp_path / "photos.csv")[0]
    small = load(first, tmp_path, (32, 24))
    assert small.image.shape == (30, 40, 3)
    assert np.allclose(small.boxes, first.boxes / 2)
    with pytest.raises(TrainingError, match="not loaded"):
        _ = first.image


@pytest.mark.parametrize("content", [b"no photo", None])
def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    write_photos(tmp_path, 1)
    photo = read_manifest(tmp_path / "photos.csv")[0]
    (tmp_path / photo.path).unlink()
    if content is not None:
        (tmp_path / photo.path).write_bytes(content)
    with pytest.raises(TrainingError, match=rf"{photo.path} cannot be read: .*; take its rows out"):
        load(photo, tmp_path, (32, 24))


def test_a_mirror_swaps_left_and_right_and_nothing_else() -> None:
    swapped = {name: VIEWPOINTS[int(flip_views(view_mask(name)[None])[0].argmax())] for name in VIEWPOINTS}
    assert swapped["front"] == "front"
    assert swapped["back"] == "back"
    assert all(
        swapped[name] == name.translate({}).replace("left", "?").replace("right", "left").replace("?", "right")
        for name in VIEWPOINTS
    )


def test_without_variation_a_picture_is_what_serving_sees() -> None:
    photo = photo_of((10, 10, 60, 40))
    picture = place(photo, (64, 64), np.random.default_rng(0))
    served = network_input(photo.image, Preprocessing(width=64, height=64, fit="letterbox"))
    assert np.array_equal(picture.pixels, served)
    assert np.allclose(picture.boxes, [[8, 16, 48, 40]])


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_boxes_follow_what_they_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = photo_of((20, 15, 60, 45), "left", seed)
    variation = Variation(zoom_out=0.4, zoom_in=0.2, stretch=0.1)
    picture = place(photo, (128, 96), rng, variation)
    assert np.abs(picture.boxes[0] - red_box(picture.pixels)).max() <= 2.5
    x1, y1, x2, y2 = picture.boxes[0].round().astype(int)
    left, right = picture.pixels[y1 + 3 : y2 - 3, x1 + 3 : x1 + 8], picture.pixels[y1 + 3 : y2 - 3, x2 - 8 : x2 - 3]
    looks_left = left.mean() < right.mean()
    assert VIEWPOINTS[int(picture.views[0].argmax())] == ("left" if looks_left else "right")


def test_a_turned_box_still_frames_the_vehicle() -> None:
    photo = photo_of((10, 20, 70, 40))
    turned = [place(photo, (80, 60), np.random.default_rng(seed), Variation(turn=10.0)) for seed in range(20)]
    assert all(abs(float(picture.boxes[0, 0] + picture.boxes[0, 2]) - 80) < 4 for picture in turned)


def rounded(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw a white vehicle on black (h, w, 3): a rectangle whose corners are cut off, the upper ones by more."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    x1, y1, x2, y2 = box
    slope = (y2 - y1) // 2
    for y in range(y1, y2):
        cut = max(0, slope - (y - y1), slope // 2 - (y2 - 1 - y))
        pixels[y, x1 + cut : x2 - cut] = 255
    return pixels


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_a_turned_box_is_close_to_what_it_frames(degrees: float) -> None:
    box = np.array([[60, 70, 180, 130]], dtype=np.float32)
    pixels, turned = turn(rounded((240, 200), (60, 70, 180, 130)), box, degrees)
    bright = pixels.min(axis=2) > 200
    framed = mask_box(bright)
    assert framed is not None
    assert iou_matrix(turned, framed[None])[0, 0] > 0.8
    c, s = abs(np.cos(np.radians(degrees))), abs(np.sin(np.radians(degrees)))
    corners = np.array([120 * c + 60 * s, 120 * s + 60 * c])
    assert ((turned[0, 2:] - turned[0, :2]) < corners).all(), "the corners' box would be too large"


def test_vehicles_that_are_tiny_in_the_picture_are_not_asked_for() -> None:
    photo = photo_of((20, 20, 60, 40))
    small = place(photo, (16, 12), np.random.default_rng(0))
    assert (small.boxes[0, 3] - small.boxes[0, 1]) < SMALLEST
    assert small.ignore.all()
    assert not place(photo, (80, 60), np.random.default_rng(0)).ignore.any()


def cut_out_of(view: str = "left") -> LabelledPhoto:
    """Return a cut-out of 80 x 60 with a vehicle of 60 x 30 in which a dark window is a hole."""
    pixels = rounded((80, 60), (10, 15, 70, 45))
    pixels[22:30, 35:45] = 0
    mask = cut_out_mask(pixels)
    return replace(photo_of((10, 15, 70, 45), view), source="cut-outs", pixels=pixels, mask=mask)


def test_a_mask_has_no_holes_and_its_box_is_the_vehicles() -> None:
    cut_out = cut_out_of()
    assert cut_out.mask is not None
    assert cut_out.mask[22:30, 35:45].all()
    assert not cut_out.mask[15, 10], "the corner beside the windscreen is background"
    box = mask_box(cut_out.mask)
    assert box is not None
    assert box.tolist() == [10, 15, 70, 45]
    assert mask_box(np.zeros((4, 4), dtype=bool)) is None
    recolored = on_another_color(cut_out, np.random.default_rng(0))
    assert (recolored[22:30, 35:45] == 0).all()
    assert not (recolored[0] == 0).all()


def test_noise_around_a_cut_out_is_not_the_vehicle() -> None:
    pixels = rounded((80, 60), (10, 15, 70, 45))
    pixels[5, 5] = 90
    box = mask_box(cut_out_mask(pixels))
    assert box is not None
    assert box.tolist() == [10, 15, 70, 45]


def test_a_pasted_cut_out_has_its_exact_box_and_keeps_the_background_around_it() -> None:
    rng = np.random.default_rng(0)
    background = plain_background((160, 120), rng)
    background.pixels[:] = (0, 0, 255)
    for _ in range(10):
        scene = pasted_scene(background, [cut_out_of()], [], rng)
        framed = mask_box(scene.pixels[..., 0] > 90)
        assert framed is not None
        assert np.abs(scene.boxes[0] - framed).max() <= 2
        x1, y1, _, _ = np.maximum(scene.boxes[0].round().astype(int), 0)
        assert scene.pixels[y1, x1, 2] > 200, "the cut-off corner shows what is behind"


def test_vehicles_in_a_row_hide_each_other_and_boxes_shrink_to_what_is_seen() -> None:
    row = [cut_out_of() for _ in range(4)]
    n_shrunk = 0
    for seed in range(12):
        background = plain_background((320, 240), np.random.default_rng(seed))
        scene = parked_row(background, row, np.random.default_rng(seed))
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        sides = scene.boxes[:, 2] - scene.boxes[:, 0]
        inner = scene.boxes[(scene.boxes[:, 0] > 0) & (scene.boxes[:, 2] < 320)]
        n_shrunk += len(inner) and bool((sides[:-1] < 0.85 * sides.max()).any())
    assert n_shrunk >= 3


def test_labels_go_when_little_of_the_vehicle_is_left() -> None:
    photo = photo_of((0, 0, 80, 60))
    pictures = [place(photo, (64, 48), np.random.default_rng(seed), Variation(zoom_in=3.0)) for seed in range(30)]
    close = [picture for picture in pictures if picture.kind == UNKNOWN_KIND]
    assert close
    assert all(not picture.views.any() for picture in close)
    assert any(picture.ignore.all() for picture in close)


def test_recolouring_keeps_the_form_and_changes_pixels() -> None:
    pixels = photo_of((10, 10, 60, 40)).image
    strong = Variation(light=0.4, damage=1.0)
    changed = recolor(pixels, np.random.default_rng(1), strong)
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    assert np.abs(changed.astype(int) - pixels).mean() > 1
    assert np.array_equal(recolor(pixels, np.random.default_rng(1), Variation()), pixels)


def test_pasted_vehicles_have_their_boxes() -> None:
    rng = np.random.default_rng(3)
    background = plain_background((256, 192), rng)
    background.pixels[:] = 255
    crop = photo_of((0, 0, 80, 60), "right")
    for _ in range(10):
        scene = pasted_scene(background, [crop], [], rng)
        assert len(scene.boxes) == 1
        assert np.abs(scene.boxes[0] - red_box(scene.pixels)).max() <= 0.08 * 256
    assert (background.pixels == 255).all(), "the background itself must stay as it is"


def test_patches_of_other_things_get_no_box() -> None:
    rng = np.random.default_rng(0)
    thing = replace(photo_of((0, 0, 80, 60)), boxes=np.zeros((0, 4), np.float32), views=np.zeros((0, 8), np.float32))
    scene = pasted_scene(plain_background((256, 192), rng), [], [thing], rng)
    assert len(scene.boxes) == 0


def test_two_photos_side_by_side_keep_both_vehicles() -> None:
    rng = np.random.default_rng(0)
    photos = photo_of((10, 10, 70, 50)), photo_of((10, 10, 70, 50), "right")
    for _ in range(8):
        picture = side_by_side(photos, (128, 96), rng, Variation())
        assert picture.pixels.shape == (96, 128, 3)
        assert len(picture.boxes) == 2
        x1, y1, x2, y2 = picture.boxes.T
        assert x1.min() >= 0
        assert x2.max() <= 128
        apart = max(x1.max() - x2.min(), y1.max() - y2.min())
        assert apart > 0
