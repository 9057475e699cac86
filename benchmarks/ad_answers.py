"""Is one answer for an ad better than its photos, and right about sellers, views and strangers? Ads in, figures out.

1. Own classes: the makes with at least 6 ads and 25 identified photos are learnt (`learn`) from four fifths of the ads
   and judged on the last fifth, five times over with other fifths. The shipped identifier beside it.
2. The make declared by a fifth of the sellers is swapped for another make of the set.
3. The views that an ad lacks, against its labels; also on the ads that the finder never learnt from.
4. A photo of another ad is planted into every second ad.
Ads are dealt to two halves by seed. Constants were chosen on the first (`--choose` prints what they were chosen from);
the tables tell both. Intervals are by ad (bootstrap): photos of an ad, and the repeats of it, are no new evidence.

    python benchmarks/ad_answers.py ../shared/data/used-car-ads [--identifier FOLDER] [--finder FOLDER] [--choose]
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carspotter.labels.resolve import Resolver
from carspotter.recognition.ad import AdAnswer, answer_ad
from carspotter.recognition.ad_views import VIEWS, find_copies
from carspotter.recognition.declared import DeclaredWords
from carspotter.recognition.fusion import find_outlier_photos, fuse
from carspotter.recognition.gallery import Gallery, LearnSettings, learn
from carspotter.recognition.identifier import Identifier
from carspotter.recognition.recognizer import Recognizer
from carspotter.records import Prediction
from carspotter.runtime.bundle import ModelBundle
from carspotter.runtime.session import Session
from carspotter.taxonomy import Taxon, Taxonomy
from measure import parser, report
from prepare_finder_data import VIEWS as SIDE_OF_LABEL
from prepare_finder_data import _parts

REPEATS, FOLDS = 5, 5
LEAST_ADS, LEAST_PHOTOS = 6, 25
SWAPS = PLANTS = 10  # draws of swapped sellers and of planted photos, for each repeat
LEAST_VIEWS = 3  # identified photos of an ad into which one is planted
BOOTSTRAPS = 2000

Row = dict[str, Any]
Counts = NDArray[np.float64]  # (n_ads, …) what is counted of each ad


@dataclass(frozen=True, slots=True, kw_only=True)
class Ad:
    """An ad's predictions, the labels of its photos, its make, its half ("choose" or "report"), and whether the
    identifier never learnt from it."""

    name: str
    make: str
    half: str
    photos: tuple[Prediction, ...]
    views: frozenset[str]
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An ad as one identifier sees it, and which of the identifier's makes it truly is."""

    ad: Ad
    identifier: Identifier
    truth: str


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("data", type=Path, help="folder with photos.csv: path, ad_id, view, make")
    options.add_argument("--identifier", type=Path, help="folder of an identifier; without it the shipped one")
    options.add_argument("--finder", type=Path, help="folder of a finder; without it the shipped one")
    options.add_argument(
        "--labels", type=Path, help="labels of the identifier's training: ads of its split test are new"
    )
    options.add_argument("--choose", action="store_true", help="print what the constants were chosen from instead")
    given = options.parse_args()
    recognizer = Recognizer.open(
        finder=given.finder, identifier=given.identifier, engine="onnxruntime", threads=1, with_hashes=True
    )
    bundle = recognizer.identifier.bundle
    session = bundle.open_session("onnxruntime", threads=1)
    ads = read_ads(given.data, recognizer, new_ads(given.labels))
    own = [own_cases(ads, bundle, session, seed) for seed in range(REPEATS)]
    identifier = Identifier(bundle, session)
    makers = [case for case in shipped_cases(ads, identifier) if case.truth]
    rows = list(choices(own, makers) if given.choose else figures(ads, own, makers, identifier=identifier))
    classes = sorted({case.truth for case in own[0]})
    conditions = {"ads": len(ads), "ads of own classes": len(own[0]), "own classes": ", ".join(classes)}
    conditions |= {"ads of makes that ship": len(makers), "identifier": bundle.name}
    report("Answers for ads", rows, as_json=given.json, conditions=conditions)


def figures(
    ads: Sequence[Ad], own: Sequence[Sequence[Case]], makers: Sequence[Case], *, identifier: Identifier
) -> Iterator[Row]:
    """Yield the rows of all four questions, for the half that is reported and for the one that was chosen on.

    The first question also for the ads that the identifier never learnt from, of both halves.
    """
    if any(ad.is_new for ad in ads):
        for name, repeats in (("own classes", own), ("shipped", [makers])):
            yield from in_half(
                "new", fused_figures(name, [[case for case in each if case.ad.is_new] for each in repeats])
            )
    for half in ("report", "choose"):
        part = [[case for case in repeat if case.ad.half == half] for repeat in own]
        ships = [[case for case in makers if case.ad.half == half]]
        for name, cases in (("own classes", part), ("shipped", ships)):
            yield from in_half(half, fused_figures(name, cases))
        yield from in_half(half, declared_figures("own classes", part))
        yield from in_half(half, view_figures("all ads", [ad for ad in ads if ad.half == half], identifier))
        for name, cases in (("own classes", part), ("shipped", ships)):
            yield from in_half(half, stranger_figures(name, cases))
    part_of = _parts(sorted(ad.name for ad in ads), report=0.2, choose=0.1)  # as the finder's training dealt them
    new = [ad for ad in ads if part_of[ad.name] == "report"]
    yield from in_half("–", view_figures("ads new to the finder", new, identifier))


def in_half(half: str, rows: Iterator[Row]) -> Iterator[Row]:
    """Put the name of a half before rows."""
    yield from ({"half": half, **row} for row in rows)


# ---- data


def new_ads(labels: Path | None) -> set[str]:
    """Return the ids of the ads that stand in the split test alone; none without labels."""
    if labels is None:
        return set()
    with labels.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "used-car-ads/photos/" in row["path"]]
    ads: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        ads[Path(row["path"]).parent.name].add(row["split"])
    return {ad for ad, splits in ads.items() if splits == {"test"}}


def read_ads(data: Path, recognizer: Recognizer, new: set[str]) -> list[Ad]:
    """Recognise the photos of all ads."""
    with (data / "photos.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    predictions = recognizer.recognize_batch([data / row["path"] for row in rows])
    members: dict[str, list[tuple[Row, Prediction]]] = defaultdict(list)
    for row, prediction in zip(rows, predictions, strict=True):
        members[row["ad_id"]].append((row, prediction))
    names = sorted(members)
    chosen = set(np.random.default_rng(0).permutation(names)[: len(names) // 2].tolist())
    return [_ad(name, members[name], "choose" if name in chosen else "report", new=name in new) for name in names]


def _ad(name: str, members: Sequence[tuple[Row, Prediction]], half: str, *, new: bool) -> Ad:
    sides = {"interior" if row["view"] == "in" else SIDE_OF_LABEL.get(row["view"], "") for row, _ in members}
    photos = tuple(prediction for _, prediction in members)
    return Ad(
        name=name,
        make=members[0][0]["make"].strip(),
        half=half,
        photos=photos,
        views=frozenset(sides - {""}),
        is_new=new,
    )


def embeddings_of(ad: Ad) -> NDArray[np.float32]:
    """Return the embeddings of an ad's identified photos, (n, d)."""
    return np.array([photo.vehicles[0].embedding for photo in ad.photos if is_identified(photo)], np.float32)


def is_identified(photo: Prediction) -> bool:
    """Return whether the first vehicle of a photo was identified."""
    return bool(photo.vehicles) and photo.vehicles[0].embedding is not None


def own_cases(ads: Sequence[Ad], base: ModelBundle, session: Session, seed: int) -> list[Case]:
    """Learn the makes that have enough ads from four fifths of the ads, and see the last fifth with them, in turn."""
    by_make: dict[str, list[Ad]] = defaultdict(list)
    for ad in ads:
        if ad.make and any(map(is_identified, ad.photos)):
            by_make[ad.make].append(ad)
    enough = {
        make: members
        for make, members in sorted(by_make.items())
        if len(members) >= LEAST_ADS and sum(len(embeddings_of(ad)) for ad in members) >= LEAST_PHOTOS
    }
    taxonomy = Taxonomy(tuple(Taxon(make=make) for make in enough))
    random = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    for number, members in enumerate(enough.values()):
        order = random.permutation(len(members)).tolist()
        fold |= {members[at].name: (place + number) % FOLDS for place, at in enumerate(order)}
    used = [ad for members in enough.values() for ad in members]
    cases = []
    for part in range(FOLDS):
        identifier, gallery = _learnt([ad for ad in used if fold[ad.name] != part], taxonomy, base, session, seed)
        held = [ad for ad in used if fold[ad.name] == part]
        cases += [Case(ad=seen_by(ad, identifier, gallery), identifier=identifier, truth=ad.make) for ad in held]
    return cases


def _learnt(
    ads: Sequence[Ad], taxonomy: Taxonomy, base: ModelBundle, session: Session, seed: int
) -> tuple[Identifier, Gallery]:
    vectors = [embeddings_of(ad) for ad in ads]
    makes = taxonomy.names("make")
    classes = np.concatenate(
        [np.full(len(found), makes.index(ad.make)) for ad, found in zip(ads, vectors, strict=True)]
    )
    groups = [ad.name for ad, found in zip(ads, vectors, strict=True) for _ in found]
    gallery = learn(np.concatenate(vectors), classes, taxonomy, groups=groups, settings=LearnSettings(seed=seed))
    bundle = ModelBundle(
        task="identifier",
        name="own",
        preprocessing=base.preprocessing,
        card=base.card,
        calibration=gallery.calibration,
        taxonomy=taxonomy,
        head=gallery.head,
    )
    return Identifier(bundle, session), gallery


def seen_by(ad: Ad, identifier: Identifier, gallery: Gallery) -> Ad:
    """Return an ad as another identifier sees it, from the embeddings."""
    photos = []
    for photo in ad.photos:
        if is_identified(photo):
            vector = np.array(photo.vehicles[0].embedding, np.float32)
            evidence = float(gallery.head.evidence(vector[None])[0])
            said = identifier.judge(gallery.probabilities(vector[None])[0], vector, evidence=evidence)
            vehicle = replace(
                photo.vehicles[0],
                answer=said.answer,
                undecided=said.undecided,
                levels=said.levels,
                probabilities=tuple(said.probabilities.tolist()),
                evidence=evidence,
            )
            photo = replace(photo, vehicles=(vehicle,))
        photos.append(photo)
    return replace(ad, photos=tuple(photos))


def known_make(taxonomy: Taxonomy, words: str) -> str:
    """Give the taxonomy's make for a seller's word, "" where it knows none."""
    make = Resolver().resolve(words).make or words
    return make if make in taxonomy.names("make") else ""


def shipped_cases(ads: Sequence[Ad], identifier: Identifier) -> list[Case]:
    """Return all ads with a vehicle; the truth is "" for a make that the shipped taxonomy does not know."""
    return [
        Case(ad=ad, identifier=identifier, truth=known_make(identifier.taxonomy, ad.make))
        for ad in ads
        if ad.make and any(map(is_identified, ad.photos))
    ]


# ---- 1. the fused answer


def fused_figures(name: str, repeats: Sequence[Sequence[Case]]) -> Iterator[Row]:
    """Yield errors of the single photo and of the fused answer, and what is right where an answer is given."""
    counts = by_ad(repeats, _fused_counts)
    yield estimate(f"{name}: make wrong, mean single photo", counts, lambda c: c[0] / c[1])
    yield estimate(f"{name}: make wrong, likeliest class of one vote each", counts, lambda c: c[2] / c[1])
    yield estimate(f"{name}: make wrong, fused", counts, lambda c: c[3] / c[1])
    yield estimate(f"{name}: fewer errors, fused against single photo", counts, lambda c: 1 - c[3] / c[0])
    yield estimate(f"{name}: single photo answered", counts, lambda c: c[4] / c[1])
    yield estimate(f"{name}: single photo's make right where answered", counts, lambda c: c[5] / c[4])
    yield estimate(f"{name}: ad answered", counts, lambda c: c[6] / c[1])
    yield estimate(f"{name}: ad's make right where answered", counts, lambda c: c[7] / c[6])
    yield {"figure": f"{name}: calibration error of the fused make (ECE)", "value": round(_ece(repeats), 4)}


def _fused_counts(case: Case) -> list[float]:
    photos = [photo.vehicles[0] for photo in case.ad.photos if is_identified(photo)]
    best = [vehicle.levels["make"][0].name for vehicle in photos]
    answered = [vehicle for vehicle in photos if vehicle.answer]
    said = answer_ad(case.ad.photos, case.identifier)
    votes = max(sorted(set(best)), key=best.count)
    return [
        float(np.mean([make != case.truth for make in best])),
        1.0,
        float(votes != case.truth),
        float(said.levels["make"][0].name != case.truth),
        len(answered) / len(photos),
        sum(v.levels["make"][0].name == case.truth for v in answered) / len(photos),
        float(said.answer is not None),
        float(said.answer is not None and is_right(said, case.truth)),
    ]


def is_right(said: AdAnswer, truth: str) -> bool:
    """Return whether an ad's answer is of a make."""
    return said.answer is not None and f"{said.answer.name} ".startswith(f"{truth} ")


def _ece(repeats: Sequence[Sequence[Case]], bins: int = 10) -> float:
    top, right = [], []
    for case in (case for repeat in repeats for case in repeat):
        best = answer_ad(case.ad.photos, case.identifier).levels["make"][0]
        top.append(best.probability)
        right.append(best.name == case.truth)
    place = np.minimum((np.array(top) * bins).astype(int), bins - 1)
    gaps = [np.array(top)[place == at].sum() - np.array(right)[place == at].sum() for at in range(bins)]
    return float(np.abs(gaps).sum() / len(top))


# ---- 2. declared against seen


def declared_figures(name: str, repeats: Sequence[Sequence[Case]]) -> Iterator[Row]:
    """Yield precision, recall and coverage where a fifth of the sellers declare another make of the set."""
    drawn = [_swapped(cases, seed) for cases in repeats for seed in range(SWAPS)]
    names = {case.ad.name: at for at, case in enumerate(repeats[0])}
    counts = np.zeros((len(names), 6))
    for case, declared in (pair for pairs in drawn for pair in pairs):
        said = answer_ad(case.ad.photos, case.identifier, declared=DeclaredWords(make=declared)).declared
        assert said is not None
        told, wrong = said.verdict == "contradicts", declared != case.truth
        agrees = said.verdict == "agrees"
        counts[names[case.ad.name]] += [told, told and wrong, wrong, 1, agrees, agrees and not wrong]
    yield estimate(f"{name}: contradicts, precision", counts, lambda c: c[1] / c[0])
    yield estimate(f"{name}: contradicts, recall", counts, lambda c: c[1] / c[2])
    yield estimate(f"{name}: agrees, precision", counts, lambda c: c[5] / c[4])
    yield estimate(f"{name}: agrees or contradicts (coverage)", counts, lambda c: (c[0] + c[4]) / c[3])


def _swapped(cases: Sequence[Case], seed: int) -> list[tuple[Case, str]]:
    random = np.random.default_rng(seed)
    liars = set(random.permutation(len(cases))[: round(len(cases) / 5)].tolist())
    makes = sorted({case.truth for case in cases})
    return [
        (case, str(random.choice([make for make in makes if make != case.truth])) if at in liars else case.truth)
        for at, case in enumerate(cases)
    ]


# ---- 3. missing views


def view_figures(name: str, ads: Sequence[Ad], identifier: Identifier) -> Iterator[Row]:
    """Yield how well the views that ads lack are told: of the eight sides and the interior."""
    counts = np.zeros((len(ads), 3))
    for at, ad in enumerate(ads):
        told, true = set(answer_ad(ad.photos, identifier).missing), set(VIEWS) - ad.views
        counts[at] = len(told & true), len(told), len(true)
    yield estimate(f"{name}: missing views, F1", counts, lambda c: 2 * c[0] / (c[1] + c[2]))
    yield estimate(f"{name}: missing views, precision", counts, lambda c: c[0] / c[1])
    yield estimate(f"{name}: missing views, recall", counts, lambda c: c[0] / c[2])


# ---- 4. another vehicle


def stranger_figures(name: str, repeats: Sequence[Sequence[Case]]) -> Iterator[Row]:
    """Yield precision and recall of the role `other-vehicle`, with a photo planted into every second ad."""
    names = {case.ad.name: at for at, case in enumerate(repeats[0])}
    counts = np.zeros((len(names), 5))
    for cases in repeats:
        for seed in range(PLANTS):
            for case, planted, is_other_make in _planted(cases, seed):
                photos = case.ad.photos if planted is None else (*case.ad.photos, planted)
                roles = [photo.role for photo in answer_ad(photos, case.identifier).photos]
                hit = planted is not None and roles[-1] == "other-vehicle"
                found = [roles.count("other-vehicle"), hit, planted is not None, hit and is_other_make, is_other_make]
                counts[names[case.ad.name]] += found
    yield estimate(f"{name}: other vehicle, precision", counts, lambda c: c[1] / c[0])
    yield estimate(f"{name}: other vehicle, recall", counts, lambda c: c[1] / c[2])
    yield estimate(f"{name}: other vehicle, recall where it is of another make", counts, lambda c: c[3] / c[4])


def _planted(cases: Sequence[Case], seed: int) -> Iterator[tuple[Case, Prediction | None, bool]]:
    """Yield ads with a photo of another ad or None, and whether that one is of another make.

    The planted photo comes as the identifier sees it that did not learn from its ad.
    """
    random = np.random.default_rng(seed)
    photos = [(case, photo) for case in cases for photo in case.ad.photos if _shows_outside(photo)]
    for case in cases:
        if sum(map(_shows_outside, case.ad.photos)) < LEAST_VIEWS:
            continue
        if random.random() < 0.5:
            yield case, None, False
            continue
        others = [at for at, (other, _) in enumerate(photos) if other.ad.name != case.ad.name]
        other, photo = photos[int(random.choice(others))]
        yield case, photo, other.ad.make != case.ad.make


def _shows_outside(photo: Prediction) -> bool:
    return is_identified(photo) and photo.kind is not None and photo.kind.name == "exterior"


# ---- what the constants were chosen from


def choices(own: Sequence[Sequence[Case]], makers: Sequence[Case]) -> Iterator[Row]:
    """Yield what each constant would give on the choosing half."""
    cases = [case for repeat in own for case in repeat if case.ad.half == "choose"]
    for exponent in (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0):
        losses = [_loss(case, exponent, most) for most in (2, 40) for case in cases]
        two, all_ = np.mean(losses[: len(cases)]), np.mean(losses[len(cases) :])
        yield {
            "constant": f"INDEPENDENCE {exponent}",
            "loss, two photos": round(float(two), 4),
            "all": round(float(all_), 4),
        }
    for left in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2):
        yield {"constant": f"MOST_LEFT {left}", **_declared_at(own, left)}
    for agreement in (0.05, 0.07, 0.1, 0.15, 0.2):
        for likeness in (0.45, 0.5, 0.55, 0.6, 0.7, 1.01):
            row: Row = {"constant": f"LEAST_AGREEMENT {agreement}, LEAST_LIKENESS {likeness}"}
            for suffix, repeats in (("", own), (", shipped", [makers])):
                found = [_strangers_at(repeat, agreement, likeness) for repeat in repeats]
                told, right, planted = np.sum(found, axis=0)
                row |= {
                    f"precision{suffix}": round(right / max(1, told), 3),
                    f"recall{suffix}": round(right / planted, 3),
                }
            yield row


def _voices(photos: Sequence[Prediction]) -> list[Prediction]:
    copies = find_copies(photos)
    return [photo for at, photo in enumerate(photos) if at not in copies and is_identified(photo)]


def _loss(case: Case, exponent: float, most: int) -> float:
    voices = np.array([photo.vehicles[0].probabilities for photo in _voices(case.ad.photos)[:most]])
    fused = fuse(voices, case.identifier.taxonomy, independence=exponent)
    return -float(np.log(fused[case.identifier.taxonomy.names("make").index(case.truth)]))


def _declared_at(own: Sequence[Sequence[Case]], left: float) -> Row:
    told = right = wrong = 0
    for repeat in own:
        half = [case for case in repeat if case.ad.half == "choose"]
        answers = {case.ad.name: answer_ad(case.ad.photos, case.identifier) for case in half}
        for case, declared in (pair for seed in range(SWAPS) for pair in _swapped(half, seed)):
            said = answers[case.ad.name]
            assert said.probabilities is not None
            kept = said.probabilities[case.identifier.taxonomy.names("make").index(declared)]
            contradicts = said.answer is not None and not is_right(said, declared) and kept <= left
            told, wrong = told + contradicts, wrong + (declared != case.truth)
            right += contradicts and declared != case.truth
    return {"precision": round(right / max(1, told), 3), "recall": round(right / wrong, 3)}


def _strangers_at(repeat: Sequence[Case], agreement: float, likeness: float) -> tuple[int, int, int]:
    told = right = planted = 0
    half = [case for case in repeat if case.ad.half == "choose"]
    for case, photo, _ in (found for seed in range(PLANTS) for found in _planted(half, seed)):
        voices = [*_voices(case.ad.photos), *([photo] if photo else [])]
        found = find_outlier_photos(
            np.array([voice.vehicles[0].probabilities for voice in voices]),
            np.array([voice.vehicles[0].embedding for voice in voices]),
            case.identifier.taxonomy,
            agreement=agreement,
            likeness=likeness,
        )
        hit = photo is not None and any(stranger.row == len(voices) - 1 for stranger in found)
        told, right, planted = told + len(found), right + hit, planted + (photo is not None)
    return told, right, planted


# ---- intervals


def by_ad(repeats: Sequence[Sequence[Case]], count: Callable[[Case], list[float]]) -> Counts:
    """Count each ad, the sum over repeats, (n_ads, …)."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for case in (case for repeat in repeats for case in repeat):
        rows[case.ad.name].append(count(case))
    return np.array([np.sum(found, axis=0) for found in rows.values()])


def estimate(figure: str, counts: Counts, value: Callable[[Counts], Any]) -> Row:
    """Return a ratio of sums over ads with the interval of a bootstrap by ad."""
    random = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        drawn = [value(counts[random.integers(len(counts), size=len(counts))].sum(axis=0)) for _ in range(BOOTSTRAPS)]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        found = float(value(counts.sum(axis=0)))
    return {"figure": figure, "value": round(found, 4), "95 %": f"{low:.4f}-{high:.4f}", "ads": len(counts)}


if __name__ == "__main__":
    main()
