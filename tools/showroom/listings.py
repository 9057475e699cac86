"""Plan a showroom: which ads there are, what their sellers write, what each photo is to show, and what is wrong.

In: `ShowroomSettings`. Out: `AdPlan`s, the same for the same settings on every machine and in any order. It draws and
writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from tools.showroom.garage import MODELS, PAINTS, Model
from tools.showroom.scenes import Setting, choose

Scene = Literal["car", "several", "interior", "wheel", "lamp", "detail", "other", "placeholder"]
Flaw = Literal["truncated", "empty", "html", "missing", "small", "dark", "blurred", "placeholder"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
BROKEN: tuple[Flaw, ...] = ("truncated", "empty", "html", "missing")
"""Flaws of the file; the others are of the picture."""
Change = Literal["re-encoded", "resized", "cropped", "watermark", "brightness"]
CHANGES: tuple[Change, ...] = get_args(Change)
Wording = Literal["plain", "spelling", "make-only", "nonsense", "wrong-label"]

# How many of a hundred photos of the outside have each flaw: some of each in a showroom of 300 ads.
_FLAW_RATES: dict[Flaw, float] = {
    "truncated": 1.5,
    "empty": 0.6,
    "html": 0.7,
    "missing": 0.6,
    "small": 1.4,
    "dark": 1.6,
    "blurred": 2.2,
    "placeholder": 1.6,
}
_RELISTED, _TWICE = 0.08, 0.03  # ads that repeat photos of an earlier ad; ads that show one photo twice
_WORDINGS: dict[Wording, float] = {"spelling": 0.45, "wrong-label": 0.03, "make-only": 0.012, "nonsense": 0.008}
_SEVERAL = 0.07  # photos of the outside with a second car
_VIEW_WEIGHTS = (0.12, 0.17, 0.10, 0.14, 0.09, 0.13, 0.10, 0.15)  # sellers love the front corners
_SIZES = ((640, 480), (720, 540), (800, 600))
_FIRST_AD = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowroomSettings:
    """How much is drawn: `ads`, photos of the outside per ad on average, and how often photos have planted flaws.

    `flaws` scales all rates: 0 draws clean ads only, 1 the usual share. Raises ValueError for what cannot be drawn. The
    defaults are those of the showroom that ships: of the first 150 seeds, the one with some of each flaw that has the
    most models with enough photographs to learn.
    """

    ads: int = 100
    seed: int = 121
    views: float = 3.2
    flaws: float = 1.5

    def __post_init__(self) -> None:
        for name, low, high in (("ads", 1, 200_000), ("seed", 0, 2**31), ("views", 1, 8), ("flaws", 0, 3)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"showroom: {name} is {value}; it must be from {low} to {high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which car an ad sells: index into `MODELS`, year, name of its paint, and where it stands."""

    model: int
    year: int
    paint: str
    setting: Setting
    plate: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoPlan:
    """Plan one photo; `seed` and `look` decide its pixels, so a copy of them is the same photo again.

    `viewpoint` is an index into `VIEWPOINTS`. `relation` and `of` say which photo it repeats, `change` what was done.
    """

    image_id: str
    scene: Scene
    seed: int
    look: Look
    size: tuple[int, int]
    viewpoint: int | None = None
    flaw: Flaw | None = None
    relation: Literal["exact", "near"] | None = None
    of: str | None = None
    change: Change | None = None

    @property
    def file(self) -> str:
        """Return the name of the photo's file: WebP, and JPEG where the file is broken, as most broken ones are."""
        return f"{self.image_id}.{'jpg' if self.flaw in BROKEN else 'webp'}"

    @property
    def kind(self) -> str:
        """Return which of `records.KINDS` the photo is by its drawing; a flaw does not change it."""
        kinds = {
            "car": "exterior",
            "several": "exterior",
            "interior": "interior",
            "other": "other",
            "placeholder": "other",
        }
        return kinds.get(self.scene, "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdPlan:
    """Plan one ad: what it sells, what its seller writes, its photos; `relists` is the ad that it repeats."""

    ad_id: str
    look: Look
    wording: Wording
    make: str
    model: str
    submodel: str
    title: str
    price: int
    photos: tuple[PhotoPlan, ...]
    relists: str | None = None

    @property
    def sold(self) -> Model:
        """Return the model that the ad truly sells."""
        return MODELS[self.look.model]


def plan(settings: ShowroomSettings) -> list[AdPlan]:
    """Plan all ads of a showroom; each ad is decided by its own number and, where it repeats one, by an earlier one."""
    ads: list[AdPlan] = []
    for number in range(settings.ads):
        random = np.random.default_rng([settings.seed, number])
        earlier = None
        if number > 2 and random.random() < _RELISTED * settings.flaws:
            earlier = ads[int(random.integers(max(0, number - 60), number))]
        ads.append(_ad(settings, number, earlier, random))
    return ads


def _ad(settings: ShowroomSettings, number: int, earlier: AdPlan | None, random: np.random.Generator) -> AdPlan:
    ad_id = str(_FIRST_AD + number)
    look = _look(random)
    if earlier is not None:
        look = replace(earlier.look, setting=look.setting)
    sold = MODELS[look.model]
    wording, make, model, submodel = _words(settings, sold, random)
    photos = _photos(settings, ad_id, look, random)
    if earlier is not None:
        photos += _repeats(ad_id, len(photos), earlier, random)
    if random.random() < _TWICE * settings.flaws:
        photos += _again(ad_id, photos, random)
    price = round(sold.price * float(random.uniform(0.6, 1.3)), -2)
    return AdPlan(
        ad_id=ad_id,
        look=look,
        wording=wording,
        make=make,
        model=model,
        submodel=submodel,
        title=_title(f"{make} {model}".strip(), look, random),
        price=int(price),
        photos=tuple(photos),
        relists=earlier.ad_id if earlier is not None and any(photo.of for photo in photos) else None,
    )


def _look(random: np.random.Generator) -> Look:
    shares = np.array([model.share for model in MODELS], float)
    model = int(random.choice(len(MODELS), p=shares / shares.sum()))
    first, last = MODELS[model].years
    paints = list(PAINTS)
    popular = np.array([3.0 if name in ("white", "black", "silver", "grey") else 1.0 for name in paints])
    return Look(
        model=model,
        year=int(random.integers(first, last + 1)),
        paint=paints[int(random.choice(len(paints), p=popular / popular.sum()))],
        setting=choose(random),
        plate=tuple(int(digit) for digit in random.integers(0, 10, 7)),
    )


# ---- photos


def _photos(settings: ShowroomSettings, ad_id: str, look: Look, random: np.random.Generator) -> list[PhotoPlan]:
    """Plan the photos of an ad: the outside from several sides first, then the inside, details, other things."""
    n_views = int(np.clip(round(random.normal(settings.views, 0.8)), 1, 8))
    views = random.choice(8, n_views, replace=False, p=np.array(_VIEW_WEIGHTS) / sum(_VIEW_WEIGHTS))
    scenes: list[tuple[Scene, int | None]] = []
    for view in sorted(views.tolist(), key=lambda view: view not in (1, 7)):
        scenes.append(("several" if random.random() < _SEVERAL else "car", view))
    scenes += [("interior", None)] * int(random.choice([0, 1, 1, 1, 2]))
    scenes += [(str(random.choice(["wheel", "lamp", "detail"])), None)] * int(random.random() < 0.4)  # type: ignore[list-item]
    scenes += [("other", None)] * int(random.random() < 0.10)
    photos = []
    for number, (scene, view) in enumerate(scenes, 1):
        size = _SIZES[int(random.choice(3, p=(0.82, 0.12, 0.06)))]
        photo = PhotoPlan(
            image_id=f"{ad_id}/{number}",
            scene=scene,
            seed=int(random.integers(2**31)),
            look=look,
            size=size,
            viewpoint=view,
        )
        photos.append(_flawed(settings, photo, random) if view is not None else photo)
    return photos


def _flawed(settings: ShowroomSettings, photo: PhotoPlan, random: np.random.Generator) -> PhotoPlan:
    chance = float(random.random()) * 100
    for flaw, rate in _FLAW_RATES.items():
        chance -= rate * settings.flaws
        if chance < 0:
            if flaw == "placeholder":
                return replace(photo, scene="placeholder", viewpoint=None, flaw=flaw)
            return replace(photo, flaw=flaw)
    return photo


def _repeats(ad_id: str, n_photos: int, earlier: AdPlan, random: np.random.Generator) -> list[PhotoPlan]:
    """Repeat some sound photos of an earlier ad: the same bytes, or nearly the same picture."""
    sound = [photo for photo in earlier.photos if photo.kind == "exterior" and photo.flaw is None and photo.of is None]
    count = min(len(sound), int(random.integers(1, 4)))
    chosen = random.choice(len(sound), count, replace=False).tolist() if sound else []
    photos = []
    for number, index in enumerate(chosen, n_photos + 1):
        is_near = random.random() < 0.65
        photos.append(
            replace(
                sound[index],
                image_id=f"{ad_id}/{number}",
                relation="near" if is_near else "exact",
                of=sound[index].image_id,
                change=CHANGES[int(random.integers(len(CHANGES)))] if is_near else None,
            )
        )
    return photos


def _again(ad_id: str, photos: list[PhotoPlan], random: np.random.Generator) -> list[PhotoPlan]:
    sound = [photo for photo in photos if photo.kind == "exterior" and photo.flaw is None and photo.of is None]
    if not sound:
        return []
    first = sound[int(random.integers(len(sound)))]
    return [replace(first, image_id=f"{ad_id}/{len(photos) + 1}", relation="exact", of=first.image_id)]


# ---- words


def _words(settings: ShowroomSettings, sold: Model, random: np.random.Generator) -> tuple[Wording, str, str, str]:
    """Return how a seller names the car, rightly or not: wording, make, model and submodel."""
    chance, wording = float(random.random()), "plain"
    for candidate, rate in _WORDINGS.items():
        chance -= rate * (settings.flaws if candidate != "spelling" else 1)
        if chance < 0:
            wording = candidate
            break
    if wording == "wrong-label":
        others = [model for model in MODELS if model.make != sold.make]
        other = others[int(random.integers(len(others)))]
        return "wrong-label", other.make, other.model, other.generation
    if wording == "make-only":
        return "make-only", sold.make, "", ""
    if wording == "nonsense":
        return "nonsense", ("-", "other", "???")[int(random.integers(3))], "see photos", ""
    if wording == "spelling" and sold.spellings:
        return "spelling", *_spelt(sold.spellings[int(random.integers(len(sold.spellings)))])
    return "plain", sold.make, sold.model, sold.generation


def _spelt(words: str) -> tuple[str, str, str]:
    """Split a seller's words: the make, the model, and the rest."""
    make, _, rest = words.partition(" ")
    model, _, submodel = rest.partition(" ")
    return make, model, submodel


_PRAISE = ("full service history", "one owner", "like new", "new tyres", "garage kept", "top condition", "non-smoker")


def _title(name: str, look: Look, random: np.random.Generator) -> str:
    praise = _PRAISE[int(random.integers(len(_PRAISE)))]
    return f"{name} {look.year}, {look.paint}, {praise}"
