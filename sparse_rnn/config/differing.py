"""What sets the runs of a list apart, found by comparing their configurations. Imports nothing heavy."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sparse_rnn.config.identity import identity
from sparse_rnn.config.stored import flat
from sparse_rnn.core.conf import SHORTHANDS

# Groups of the configuration, the most telling first; and those that mostly follow from the choice of others.
CHOICES = ("model", "dataset", "sparsifier", "optimizer", "growth", "recipe", "protocol", "budget")
FOLLOWS = {"growth": ("sparsifier",), "recipe": ("model", "optimizer")}
OF_RECIPE = {"sparsifier.sparsity": "recipe.sparsity", "sparsifier.removal_rate": "recipe.removal_rate"}
SHORT = {key: short for short, key in SHORTHANDS.items()}
NAME = ".name"

Settings = Mapping[str, str]  # the text of a value by its dotted key


def labels(configs: Sequence[Mapping[str, Any]], *, without: Collection[str] = ()) -> list[str]:
    """Each run as `sparsity=0.9 removal_rate=0.5, seed 2`; the seed where it differs. See `differing`."""
    found = differing(configs, without=without)
    seeds = [f"seed {config['seed']}" for config in configs]
    several = len(set(seeds)) > 1
    return [", ".join(filter(None, (words, seed if several else ""))) for words, seed in zip(found, seeds, strict=True)]


def differing(configs: Sequence[Mapping[str, Any]], *, without: Collection[str] = ()) -> list[str]:
    """For each run the settings in which these runs differ, seeds apart, as `sparsity=0.9 removal_rate=0.5`.

    configs: as `as_dict(run)` gives them. A setting that follows from the choices by name, as the learning rate from
    the optimizer's recipe, is left out. without: groups that are shown elsewhere.
    """
    settings = [_settings(config) for config in configs]
    known = dict.fromkeys([f"{group}{NAME}" for group in CHOICES])
    for each in settings:
        known |= dict.fromkeys(each)
    varying = [key for key in known if len({each.get(key) for each in settings}) > 1]
    chosen = _chosen(varying, settings)
    own = [key for key in varying if not key.endswith(NAME) and _is_own(key, chosen, settings)]
    shown = [key for key in chosen if key.removesuffix(NAME) not in without] + _once(own, settings)
    names = short_names(shown)
    return [" ".join(f"{names[key]}={each[key]}" for key in shown if key in each) for each in settings]


def short_names(keys: Collection[str]) -> dict[str, str]:
    """`sparsity` for sparsifier.sparsity, `model` for model.name; the whole key where two would be called the same."""
    found = {key: SHORT.get(key) or key.removesuffix(NAME).rpartition(".")[2] for key in keys}
    count = Counter(found.values())
    return {key: name if count[name] == 1 else key for key, name in found.items()}


def written(value: Any) -> str:
    """A value as in an override: 0.9, true, null, [a,b]."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """What decides what a run computes, without seeds, but with the names of the user's files."""
    own = identity(config) | {"dataset": config["dataset"]}
    found = {key: written(value) for key, value in flat(own)}
    seed = found.pop("seed")
    if found.get("init_seed") == seed:
        del found["init_seed"]
    return found


def _chosen(varying: Sequence[str], settings: Sequence[Settings]) -> list[str]:
    """The choices by name in which runs differ, without those that follow from others."""
    names = [key for key in varying if key.endswith(NAME)]
    for group, others in FOLLOWS.items():
        key = f"{group}{NAME}"
        if key in names and _follows(key, [f"{other}{NAME}" for other in others], settings):
            names.remove(key)
    return names


def _is_own(key: str, chosen: Sequence[str], settings: Sequence[Settings]) -> bool:
    """Whether a setting that differs tells more than the choices by name do."""
    if key.startswith("recipe."):
        return False  # it acts through the settings that take it over
    if key in OF_RECIPE and any(each.get(key) != each.get(OF_RECIPE[key]) for each in settings):
        return True  # somebody has set it, whatever else differs
    return not _follows(key, chosen, settings)


def _follows(key: str, of: Sequence[str], settings: Sequence[Settings]) -> bool:
    """Whether runs that agree in the keys `of` agree in `key`."""
    values = {(tuple(each.get(name) for name in of), each.get(key)) for each in settings}
    return len({first for first, _ in values}) == len(values)


def _once(keys: Sequence[str], settings: Sequence[Settings]) -> list[str]:
    """Keys without those that only pass the value of another one on, as optimizer.average_by that of the budget."""
    first: dict[tuple[str, tuple[str | None, ...]], str] = {}
    for key in keys:
        first.setdefault((key.rpartition(".")[2], tuple(each.get(key) for each in settings)), key)
    return list(first.values())
