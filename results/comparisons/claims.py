"""What the runs say about the papers' claims, each declared by a file of conf/finding."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..gathering import Gathered
from .pairs import Pair, pair_of

HOLDS, FAILS, OPEN, UNTRIED = VERDICTS = ("holds", "does not hold", "undecided", "no runs")


@dataclass(frozen=True)
class Setting:
    """A claim in one setting: the first row of a block against the second. margin: see FindingFile."""

    pair: Pair
    margin: float

    @property
    def verdict(self) -> str:
        """One of VERDICTS: whether the interval of how much worse a is lies below the margin, above it, or around."""
        worse = self.pair.worse
        if worse is None:
            return UNTRIED
        if worse.high < self.margin:
            return HOLDS
        return FAILS if worse.low > self.margin else OPEN


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, in all its settings."""

    gathered: Gathered

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.gathered.spec.name

    @cached_property
    def settings(self) -> Sequence[Setting]:
        """What the runs say in each setting; raises ConfigError if a run has no test result."""
        spec = self.gathered.spec
        return [Setting(pair_of(self.gathered, block), spec.margin) for block in spec.blocks]

    @property
    def verdict(self) -> str:
        """The verdict that all settings with runs share, or else how many have which."""
        counts = Counter(setting.verdict for setting in self.settings)
        tried = [name for name in VERDICTS if counts[name] and name != UNTRIED]
        if len(tried) < 2:
            return tried[0] if tried else UNTRIED
        return (
            ", ".join(f"{name} in {counts[name]}" for name in tried) + f" of {sum(counts[n] for n in tried)} settings"
        )


def lines(claims: Sequence[Claim]) -> Iterator[dict[str, object]]:
    """Every setting of every claim with its difference, as one line of a CSV file."""
    for claim in claims:
        for setting in claim.settings:
            pair, found = setting.pair, setting.pair.difference
            yield {
                "finding": claim.name,
                "setting": pair.block,
                "a": pair.a,
                "b": pair.b,
                "metric": pair.metric,
                "mean": found.mean if found else None,
                "low": found.low if found else None,
                "high": found.high if found else None,
                "seeds": " ".join(map(str, found.seeds)) if found else "",
                "margin": setting.margin,
                "verdict": setting.verdict,
                "run_ids": " ".join(pair.run_ids),
            }
