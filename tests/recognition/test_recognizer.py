"""From a photo to a prediction, through real engines on tiny bundles."""

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alike import alike
from carspotter.errors import BundleError
from carspotter.geometry import BoundingBox
from carspotter.recognition import candidates
from carspotter.recognition.candidates import why_no_vehicle
from carspotter.recognition.finder import Finding
from carspotter.recognition.identifier import NO_CAR
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import KINDS, Detection, Kind, Prediction
from hostile import hostile_files
from tiny_bundles import ATTRIBUTES, BACKGROUNDS, TOY_COLOR, draw_photo

RED = ("red", (100, 200, 500, 500))
BLUE = ("blue", (600, 100, 780, 250))
SIZE = (800, 600)


def file_of(pixels: NDArray[np.uint8], form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, quality=95)
    return buffer.getvalue()


class FixedFinder:
    """A finder that says the same of every photo."""

    def __init__(self, recognizer: Recognizer, exterior: float, kind: str, score: float) -> None:
        self.bundle = recognizer.finder.bundle
        rest = (1 - exterior) / 3
        best = max(exterior, rest)
        box = Detection(box=BoundingBox(10, 10, 90, 70), score=score, viewpoints=(1.0, *(0.0,) * 7))
        self.finding = Finding(
            kind=Kind(name=kind, probability=best), kind_probabilities=(exterior, rest, rest, rest), detections=(box,)
        )

    def find(self, photos: Sequence[NDArray[np.uint8]]) -> list[Finding]:
        return [self.finding for _ in photos]


@pytest.mark.parametrize("form", ["path", "text", "bytes", "array", "url"])
def test_every_form_of_a_photo_is_answered(form: str, recognizer: Recognizer, tmp_path: Path) -> None:
    pixels = draw_photo(SIZE, [RED])
    path = tmp_path / "photo.jpg"
    path.write_bytes(file_of(pixels))
    photo = {"path": path, "text": str(path), "bytes": path.read_bytes(), "array": pixels, "url": path.as_uri()}[form]
    found = recognizer.recognize(photo)
    assert found.error is None
    assert (found.width, found.height) == SIZE
    assert found.kind is not None
    assert found.kind.name == "exterior"
    (vehicle,) = found.vehicles
    assert vehicle.answer is not None
    assert (vehicle.answer.level, vehicle.answer.name) == ("year", "Rubin Alpha 2012")
    assert vehicle.box.iou(BoundingBox(*map(float, RED[1]))) > 0.95
    assert vehicle.viewpoint.name == "front"
    assert vehicle.embedding is not None
    assert np.linalg.norm(vehicle.embedding) == pytest.approx(1, abs=1e-3)
    assert set(found.milliseconds) == {"decode", "find", "identify"}
    assert found.bundles == {"finder": "tiny-finder", "identifier": "tiny-identifier"}
    assert found.photo == {"bytes": "<bytes>", "array": "<array>"}.get(form, str(photo))
    assert Prediction.from_dict(found.to_dict()).vehicles[0].answer is not None


def test_colour_and_body_are_told_with_what_they_come_from(recognizer: Recognizer) -> None:
    for color, look in (("red", "red Sedan"), ("green", "green Hatchback"), ("light blue", "blue Convertible")):
        (vehicle,) = recognizer.recognize(draw_photo(SIZE, [(color, RED[1])])).vehicles
        assert vehicle.look == look
        assert {name: len(values) for name, values in vehicle.attributes.items()} == {
            name: len(words) for name, words in ATTRIBUTES.items()
        }
        assert sum(vehicle.attributes["colour"]) == pytest.approx(1, abs=1e-4)
        assert "attributes" not in vehicle.to_dict()


def test_what_is_no_car_has_a_box_and_nothing_of_a_car(recognizer: Recognizer) -> None:
    toy, car = recognizer.recognize_together([draw_photo(SIZE, [(TOY_COLOR, RED[1])]), draw_photo(SIZE, [RED])])
    (vehicle,) = toy.vehicles
    assert vehicle.undecided == NO_CAR
    assert vehicle.box.iou(BoundingBox(*map(float, RED[1]))) > 0.9
    assert vehicle.answer is None
    assert vehicle.look == ""
    assert not any(vehicle.levels.values()), "no name, not even a guess"
    assert (vehicle.probabilities, vehicle.embedding) == (None, None)
    assert why_no_vehicle(toy) is None
    assert car.vehicles[0].answer is not None


def test_boxes_are_in_pixels_of_the_original(recognizer: Recognizer) -> None:
    large = draw_photo((3200, 2400), [("green", (400, 800, 2000, 2000))])
    for form in ("JPEG", "PNG"):  # scaled by the decoder, and by us
        (vehicle,) = recognizer.recognize(file_of(large, form)).vehicles
        assert vehicle.box.iou(BoundingBox(400, 800, 2000, 2000)) > 0.95


def test_a_large_png_is_not_kept_large(recognizer: Recognizer) -> None:
    loaded = recognizer._load(file_of(draw_photo((3200, 2400)), "PNG"))
    assert loaded.decoded is not None
    assert min(loaded.decoded.pixels.shape[:2]) < 2 * recognizer._side
    assert (loaded.decoded.width, loaded.decoded.height) == (3200, 2400)


def test_an_upright_photo_is_what_counts(recognizer: Recognizer) -> None:
    pixels = draw_photo((600, 800), [("red", (100, 300, 500, 700))])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: a viewer turns the picture 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(buffer, "JPEG", exif=exif, quality=95)
    found = recognizer.recognize(buffer.getvalue())
    assert (found.width, found.height) == (600, 800)
    assert found.vehicles[0].box.iou(BoundingBox(100, 300, 500, 700)) > 0.95


@pytest.mark.parametrize(
    ("select", "names"), [("largest", ["Rubin"]), ("all", ["Rubin", "Azur"]), ("center", ["Rubin"])]
)
def test_select(select: str, names: list[str], recognizer: Recognizer) -> None:
    other = Recognizer(recognizer.finder, recognizer.identifier, select=select)  # type: ignore[arg-type]
    found = other.recognize(draw_photo(SIZE, [BLUE, RED]))
    assert [vehicle.levels["make"][0].name for vehicle in found.vehicles] == names


@pytest.mark.parametrize(
    ("background", "kind", "reason"),
    [
        ("interior", "interior", "an interior: no whole vehicle to identify"),
        ("detail", "detail", "a detail: no whole vehicle to identify"),
        ("other", "other", "no vehicle found"),
        ("exterior", "exterior", "no vehicle found"),
    ],
)
def test_a_photo_without_a_vehicle_says_why(background: str, kind: str, reason: str, recognizer: Recognizer) -> None:
    found = recognizer.recognize(draw_photo(SIZE, background=BACKGROUNDS[background]))
    assert found.kind is not None
    assert (found.kind.name, found.vehicles, found.error) == (kind, (), None)
    assert why_no_vehicle(found) == reason


@pytest.mark.parametrize(
    ("exterior", "kind", "score", "undecided"),
    [
        (0.8, "exterior", 0.5, None),  # passes the gate
        (0.8, "detail", 0.5, None),
        (0.6, "exterior", 0.9, None),  # fails it, but the box is certain
        (0.6, "exterior", 0.5, "not surely a photo of a vehicle's outside: 0.60 is below 0.70"),
        (0.1, "detail", 0.9, None),
        (0.1, "detail", 0.5, "a detail: no whole vehicle to identify"),
        (0.1, "interior", 0.9, "no vehicle"),
        (0.1, "other", 0.9, "no vehicle"),
    ],
)
def test_gate(exterior: float, kind: str, score: float, undecided: str | None, recognizer: Recognizer) -> None:
    finder = FixedFinder(recognizer, exterior, kind, score)
    found = Recognizer(finder, recognizer.identifier).recognize(draw_photo((100, 80), [("red", (10, 10, 90, 70))]))  # type: ignore[arg-type]
    if undecided == "no vehicle":
        assert found.vehicles == ()
        return
    (vehicle,) = found.vehicles
    assert vehicle.undecided == undecided
    assert (vehicle.answer is None) == (undecided is not None)
    assert list(vehicle.levels) == ["make", "model", "generation", "year"]


def test_a_tiny_vehicle_is_listed_and_not_identified(recognizer: Recognizer) -> None:
    found = Recognizer(recognizer.finder, recognizer.identifier).recognize(
        draw_photo((128, 96), [("red", (0, 40, 128, 46))])  # 6 px of the 6.9 that a 32 px input needs
    )
    (vehicle,) = found.vehicles
    assert vehicle.answer is None
    assert vehicle.undecided == "too small to identify: its shorter side has 6 px of this photo, 7 are needed"


def test_threshold_and_top_reach_the_identifier(bundles: dict[str, Path]) -> None:
    opened = Recognizer.open(**bundles, engine="onnxruntime", threads=1, threshold=1.0, top=1)
    (vehicle,) = opened.recognize(draw_photo(SIZE, [("orange", RED[1])])).vehicles
    assert all(len(ranked) == 1 for ranked in vehicle.levels.values())


@pytest.mark.parametrize(
    ("photo", "code"),
    [
        (b"", "empty"),
        (b"no photo at all", "unsupported-format"),
        ("missing.jpg", "storage"),
        ("nowhere://x/y.jpg", "storage"),
        (np.zeros((4, 4), np.uint8), "unreadable"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 3), np.float32), "unreadable"),
    ],
)
def test_a_bad_photo_is_a_prediction_with_an_error(
    photo: str | bytes | NDArray[np.uint8], code: str, recognizer: Recognizer
) -> None:
    found = recognizer.recognize(photo)
    assert found.error is not None
    assert found.error.type == code
    assert "\n" not in found.error.message
    assert (found.vehicles, found.kind) == ((), None)
    assert set(found.milliseconds) == {"decode"}
    assert why_no_vehicle(found) is None


def test_a_batch_keeps_the_order_and_answers_like_single_photos(recognizer: Recognizer) -> None:
    photos = [file_of(draw_photo(SIZE, [(color, RED[1])])) for color in ("red", "blue", "green", "orange")] * 5
    photos[7] = b"broken"
    batch = list(recognizer.recognize_batch(iter(photos), 3))
    assert len(batch) == len(photos)
    assert [p.error is not None for p in batch] == [number == 7 for number in range(20)]
    for one, many in zip([recognizer.recognize(p) for p in photos[:8]], batch, strict=False):
        assert [v.to_dict() for v in one.vehicles] == alike([v.to_dict() for v in many.vehicles])


def test_wrong_arguments_are_told_before_the_first_photo(recognizer: Recognizer) -> None:
    with pytest.raises(ValueError, match="did you mean 'largest'"):
        Recognizer(recognizer.finder, recognizer.identifier, select="larges")  # type: ignore[arg-type]
    for batch_size in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            next(recognizer.recognize_batch([b""], batch_size))


def test_an_empty_batch(recognizer: Recognizer) -> None:
    assert list(recognizer.recognize_batch([])) == []


def test_a_batch_holds_a_window_of_photos_only(recognizer: Recognizer) -> None:
    taken = 0

    def photos() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield data

    data = file_of(draw_photo((100, 80)))
    for number, _ in enumerate(recognizer.recognize_batch(photos(), 4)):
        assert taken <= number + 2 * 4


def test_a_batch_that_is_left_early_leaves_no_thread(recognizer: Recognizer) -> None:
    data = file_of(draw_photo((100, 80)))
    batch = recognizer.recognize_batch([data] * 50, 4)
    next(batch)
    batch.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_hostile_files_are_each_answered_in_order(recognizer: Recognizer, tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(file_of(draw_photo(SIZE, [RED])))
    paths = [*hostile_files(tmp_path / "hostile"), good]
    found = list(recognizer.recognize_batch(paths))
    assert [p.photo for p in found] == [str(path) for path in paths]
    assert found[-1].vehicles[0].answer is not None
    for prediction in found:
        assert prediction.error is None or "\n" not in prediction.error.message
        assert (prediction.error is None) == (prediction.kind is not None)
    assert sum(p.error is not None for p in found) > len(found) / 4


def test_a_foreign_detector_gives_boxes_and_the_finder_the_sides(recognizer: Recognizer) -> None:
    class Everything:
        def detect(self, pixels: NDArray[np.uint8]) -> tuple[Detection, ...]:
            height, width = pixels.shape[:2]
            return (Detection(box=BoundingBox(0.1 * width, 0.3 * height, 0.65 * width, 1.2 * height), score=0.9),)

    with_detector = Recognizer(recognizer.finder, recognizer.identifier, detector=Everything())
    (vehicle,) = with_detector.recognize(draw_photo(SIZE, [RED])).vehicles
    assert vehicle.box.to_list() == pytest.approx([80, 180, 520, 600], abs=1)  # clipped to the photo
    assert vehicle.viewpoint.name == "front"


def test_a_bundle_for_the_other_task_is_refused(bundles: dict[str, Path]) -> None:
    with pytest.raises(BundleError, match="finder is needed"):
        Recognizer.open(finder=bundles["identifier"], identifier=bundles["identifier"], engine="onnxruntime")
    with pytest.raises(BundleError, match="identifier"):
        Recognizer.open(finder=bundles["finder"], identifier=bundles["finder"], engine="onnxruntime")


def test_kinds_have_words_for_no_vehicle() -> None:
    assert set(candidates._NO_VEHICLE) == set(KINDS)


def test_photos_together_are_each_selected_by_themselves(recognizer: Recognizer) -> None:
    photo = file_of(draw_photo(SIZE, [RED, BLUE]))
    one, both, broken = recognizer.recognize_together([photo, photo, b"no photo"], ["largest", "all", "all"])
    assert (len(one.vehicles), len(both.vehicles)) == (1, 2)
    assert one.vehicles[0].to_dict() == alike(recognizer.recognize(photo).vehicles[0].to_dict())
    assert broken.error is not None
    assert len(recognizer.recognize_together([photo])[0].vehicles) == 1
    with pytest.raises(ValueError, match="2 photos and 1 selections"):
        recognizer.recognize_together([photo, photo], ["all"])
    with pytest.raises(ValueError, match="unknown"):
        recognizer.recognize_together([photo], ["most"])  # type: ignore[list-item]


def test_hashes_and_probabilities_come_along_and_stay_out_of_the_json(bundles: dict[str, Path]) -> None:
    recognizer = Recognizer.open(**bundles, threads=1, with_hashes=True)  # type: ignore[arg-type]
    photo, smaller = draw_photo(SIZE, [RED]), draw_photo((400, 300), [("red", (50, 100, 250, 250))])
    found, copy = recognizer.recognize(photo), recognizer.recognize(smaller)
    assert found.hashes is not None
    assert copy.hashes is not None
    assert all((a ^ b).bit_count() <= 6 for a, b in zip(found.hashes, copy.hashes, strict=True))
    (vehicle,) = found.vehicles
    assert vehicle.probabilities is not None
    assert sum(vehicle.probabilities) == pytest.approx(1)
    assert not {"hashes", "probabilities"} & {*found.to_dict(), *vehicle.to_dict()}
