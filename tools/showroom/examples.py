"""Draw the example photos of the web pages: cars from several sides, an interior, two cars, and one whole ad.

In: the table below, a line a photo. Out: small JPEG files in `src/carspotter/serving/web/examples`, always the same
bytes with the same Pillow. The cars are the showroom's: drawn, so no photograph ships.

    python -m tools.showroom.examples
"""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from carspotter.records import VIEWPOINTS
from tools.showroom.flaws import encode
from tools.showroom.garage import MODELS
from tools.showroom.listings import Look, PhotoPlan, Scene
from tools.showroom.photos import draw_image
from tools.showroom.scenes import Place, Setting

FOLDER = Path(__file__).parents[2] / "src" / "carspotter" / "serving" / "web" / "examples"
LARGEST = 60_000  # bytes: the examples travel with the page
QUALITIES = range(88, 50, -2)  # the best that is small enough
SIZE = (720, 540)


def look(make: str, generation: str, paint: str, place: Place) -> Look:
    """Return which car is drawn, and where it stands, in the same light each time."""
    model = next(i for i, one in enumerate(MODELS) if (one.make, one.generation) == (make, generation))
    setting = Setting(place=place, weather=0, sun_turn=1.0, sun_height=0.8, ground=0, phase=3.0)
    return Look(model=model, year=MODELS[model].years[0] + 1, paint=paint, setting=setting, plate=(4, 1, 7, 2, 9, 3, 5))


GOLF = look("Volkswagen", "1983-1992", "yellow", "street")
SPORT = look("Audi", "2007-2017", "blue", "yard")
ESTATE = look("Volvo", "2002-2014", "red", "field")
SALOON = look("BMW", "2011-2019", "petrol", "street")
"""Cars of the examples."""

PHOTOS: dict[str, tuple[Look, Scene, str | None, int]] = {
    "front-left": (GOLF, "car", "front-left", 29),
    "right": (SPORT, "car", "right", 2),
    "back-right": (ESTATE, "car", "back-right", 1),
    "two-cars": (SALOON, "several", "front-right", 7),
    "interior": (SALOON, "interior", None, 0),
    "wheel": (SPORT, "wheel", None, 3),
    "ad-1": (GOLF, "car", "front-right", 25),
    "ad-2": (GOLF, "car", "front-left", 28),
    "ad-3": (GOLF, "car", "right", 20),
    "ad-4": (GOLF, "car", "back-right", 20),
    "ad-5": (GOLF, "interior", None, 3),
    "ad-6": (SPORT, "car", "right", 1),
    "ad-7": (GOLF, "wheel", None, 1),
}
"""Each file's name, and the car, the scene, the viewpoint and the seed it is drawn with."""

COPY = ("ad-8", "ad-2")
"""A photo that the ad shows twice: the second one is smaller and written anew."""


def draw(name: str) -> Image.Image:
    """Draw one example."""
    car, scene, view, seed = PHOTOS[name]
    photo = PhotoPlan(image_id=name, scene=scene, seed=seed, look=car, size=SIZE)
    if view is not None:
        photo = replace(photo, viewpoint=VIEWPOINTS.index(view))
    return draw_image(photo)[0]


def small(image: Image.Image) -> bytes:
    """Encode an image as well as `LARGEST` allows."""
    written = (encode(image, quality) for quality in QUALITIES)
    return next(data for data in written if len(data) <= LARGEST)


def examples() -> dict[str, bytes]:
    """Draw all examples: the bytes of each file by its name."""
    files = {f"{name}.jpg": small(draw(name)) for name in PHOTOS}
    copy, of = COPY
    again = Image.open(BytesIO(files[f"{of}.jpg"])).resize((SIZE[0] * 3 // 4, SIZE[1] * 3 // 4))
    return files | {f"{copy}.jpg": small(again)}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in examples().items():
        (FOLDER / name).write_bytes(data)
        print(f"{name} {len(data)} bytes")
