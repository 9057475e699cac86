"""Measure how far several people agree on the same targets, as a share and as kappa.

Kappa is 1 where people always agree and 0 where they agree as often as chance would: with 95 exteriors of 100, two
people who say "exterior" blindly agree in 90 % of cases. It reads no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far people agree on the `targets` that at least two of them judged.

    `percent` is the share of pairs of people, averaged over targets, who said the same, 0..100; `kappa` is None where
    chance alone would agree always. `method` is "cohen" for two people, "fleiss" for more. `differ` are the targets on
    which they differ, each with what each person said.
    """

    people: tuple[str, ...]
    targets: int
    percent: float | None
    kappa: float | None
    method: Literal["cohen", "fleiss"]
    differ: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "people": list(self.people),
            "targets": self.targets,
            "method": self.method,
            "percent": None if self.percent is None else round(self.percent, 1),
            "kappa": None if self.kappa is None else round(self.kappa, 3),
            "differ": [{"target": list(row["target"]), "said": dict(row["said"])} for row in self.differ],
        }


def measure_agreement(said: Mapping[tuple[str, ...], Mapping[str, str]]) -> Agreement:
    """Compare what people said: `said` maps each target to a word a person."""
    shared = {target: words for target, words in said.items() if len(words) > 1}
    people = tuple(sorted({person for words in shared.values() for person in words}))
    differ = tuple(
        {"target": target, "said": words} for target, words in shared.items() if len(set(words.values())) > 1
    )
    method: Literal["cohen", "fleiss"] = "fleiss" if len(people) > 2 else "cohen"
    if not shared:
        return Agreement(people=(), targets=0, percent=None, kappa=None, method="cohen")
    if method == "cohen":
        first, second = people
        share, kappa = cohen_kappa((words[first], words[second]) for words in shared.values())
    else:
        share, kappa = fleiss_kappa(Counter(words.values()) for words in shared.values())
    return Agreement(people=people, targets=len(shared), percent=100 * share, kappa=kappa, method=method, differ=differ)


def cohen_kappa(pairs: Iterable[tuple[Hashable, Hashable]]) -> tuple[float, float | None]:
    """Return the share of equal pairs and Cohen's kappa of two people's words.

    J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960):
    kappa = (p_o - p_e) / (1 - p_e), p_e from each person's own shares. None where p_e is 1. Raises ValueError for none.
    """
    found = list(pairs)
    if not found:
        raise ValueError("kappa of nothing: at least one pair is needed")
    observed = sum(a == b for a, b in found) / len(found)
    left, right = Counter(a for a, _ in found), Counter(b for _, b in found)
    chance = sum(left[word] * right[word] for word in left) / len(found) ** 2
    return observed, _kappa(observed, chance)


def fleiss_kappa(counts: Iterable[Mapping[Any, int]]) -> tuple[float, float | None]:
    """Return the mean share of equal pairs and Fleiss' kappa; `counts` maps the words of each target to their people.

    J. L. Fleiss, "Measuring nominal scale agreement among many raters", Psychological Bulletin 76 (1971); targets may
    have different numbers of people, as in Fleiss, Levin and Paik (2003), chapter 18. Raises ValueError for a target of
    fewer than two.
    """
    shares, total = [], Counter[Any]()
    for count in counts:
        n = sum(count.values())
        if n < 2:
            raise ValueError(f"kappa of a target of {n} people: at least two are needed")
        shares.append(sum(k * (k - 1) for k in count.values()) / (n * (n - 1)))
        total.update(count)
    if not shares:
        raise ValueError("kappa of nothing: at least one target is needed")
    observed, n_all = sum(shares) / len(shares), sum(total.values())
    chance = sum((k / n_all) ** 2 for k in total.values())
    return observed, _kappa(observed, chance)


def _kappa(observed: float, chance: float) -> float | None:
    # Shares of whole numbers: within rounding of 1 there is one word that everybody says.
    return None if chance > 1 - 1e-12 else (observed - chance) / (1 - chance)
