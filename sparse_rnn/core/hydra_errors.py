"""What Hydra and OmegaConf say about a configuration, as one sentence.

Hydra raises one class for most errors of composition: those are recognized by their English, and tests hold each text.
"""

from collections.abc import Sequence
from dataclasses import fields

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    InterpolationValidationError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import MarkedYAMLError, YAMLError

from sparse_rnn.core.conf import GROUPS, SEARCH_PATH, options, unknown
from sparse_rnn.core.errors import suggest
from sparse_rnn.core.plugins import PLUGINS, named_files
from sparse_rnn.core.registry import choices, lookup

GLOBAL = ("recipe", "budget", "protocol", "size", "tuning", "pairing", "excerpt")  # groups of settings of any key
PACKAGE = "# @package _global_"

# What composition raises, a file that is no YAML and one whose defaults name itself among the causes.
OF_COMPOSITION = (HydraException, OmegaConfBaseException, YAMLError, RecursionError, ValueError)


def explain(error: BaseException) -> str:
    """One sentence that says what is wrong with a configuration, and what to do."""
    cause = error.__cause__
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}, is not YAML ({error.problem})."
    if isinstance(error, RecursionError):
        return "The defaults of a file name the file itself: write `defaults: [schema_NAME, _self_]`."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if missing := _half_a_component(group, name):
            return missing
        known = [option for option in error.options or [] if not option.startswith("schema")]
        if group == "recipe" and (pair := _model_and_optimizer(name)):
            return _no_recipe(*pair, known)
        without = "; recipe=none goes without, by settings of your own" if group == "recipe" else ""
        return f"{group}={name} does not exist{unknown(name, known)}{without}."
    if isinstance(error, InterpolationToMissingValueError | InterpolationValidationError):
        return f"{error.full_key} is not set: give it a value, or choose a recipe that does."
    if isinstance(error, MissingMandatoryValue) or isinstance(cause, MissingMandatoryValue):
        return f"{_missing_key(error)} is not set: give it a value, or choose a recipe that does."
    if "interpolation key" in str(error) and "${budget}/${model}" in str(error):
        return f"{', '.join(GROUPS)} are config groups: each needs one name, as in model=rhn."
    if "raised while composing config" in str(error):
        where, what, *_ = str(error).splitlines()
        group, _, name = where.split("'")[1].partition("/")
        what = _with_choice(what.rstrip(".").replace("Key", "key"))
        return f"{group}={name} does not go with the other choices: {what}{_without_package(group, name)}."
    if "Ambiguous value for argument" in str(error):
        at_once = "; several loggers of one run are logger=[wandb,tensorboard]" if "'logger=" in str(error) else ""
        return f"{_first_line(error)} (several values need -m{at_once})."
    if isinstance(error, OverrideParseException):
        return f"The override {str(error.override)!r} cannot be read: write key=value, quoted if the value is unusual."
    if isinstance(error, ValidationError) or isinstance(cause, ValidationError):
        found = cause if isinstance(cause, ValidationError) else error
        return f"{getattr(found, 'full_key', '')}: {_first_line(found)}."
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        known = list(cause.parent_node) if isinstance(cause.parent_node, DictConfig) else []
        return f"{cause.full_key or cause.key} is not a key of the configuration{suggest(str(cause.key), known)}."
    return f"{_first_line(cause if isinstance(cause, OmegaConfBaseException) else error)}."


def _model_and_optimizer(recipe: str) -> tuple[str, str] | None:
    """The model and the optimizer that a recipe is chosen by; None for a name that does not consist of two."""
    pairs = [
        (model, name) for model in choices("model") for name in choices("optimizer") if f"{model}_{name}" == recipe
    ]
    return pairs[0] if pairs else None


def _no_recipe(model: str, optimizer: str, known: Sequence[str]) -> str:
    """What to write where a model has no recipe for an optimizer. known: the recipes that there are."""
    fitting = [name for name in choices("optimizer") if f"{model}_{name}" in known]
    others = sorted(name for name in known if _made_for(name) == model)
    names = [*(f"{model}_{name}" for name in fitting), *others]
    written = [f"optimizer={name}" for name in fitting] + [f"recipe={name}" for name in others]
    numbers = ["training.epochs=EPOCHS", "sparsifier.sparsity=SPARSITY", "sparsifier.removal_rate=RATE"]
    if any(f.name == "lr" and f.default == MISSING for f in fields(lookup("optimizer", optimizer))):
        numbers.insert(0, "optimizer.lr=LR")
    written.append(f"recipe=none {' '.join(numbers)} with numbers of your own (for sparsifier=dense no sparsity)")
    there = f"there are only {', '.join(names)}" if names else "there is none"
    return f"recipe={model}_{optimizer} does not exist, and for model={model} {there}: write {', or '.join(written)}."


def _made_for(recipe: str) -> str | None:
    """The only model that a recipe is for, where the recipe says so itself."""
    path = options("recipe").get(recipe)
    return OmegaConf.select(OmegaConf.load(path), "recipe.model") if path else None


def _half_a_component(group: str, name: str) -> str:
    """What a component lacks that has a file but no class, or a class but no file; empty if it has neither."""
    option = name.removeprefix("schema_")
    if option != name and option in options(group):
        file = options(group)[option]
        there = named_files()
        named = f", which names {' and '.join(there)}" if there else ""
        return (
            f"{group}={option} has a file, {file}, and no class: name the module that registers it in {PLUGINS}{named}."
        )
    if group in GROUPS and name in choices(group):
        return (
            f"{group}={name} has a class and no file: write {group}/{name}.yaml, with the line "
            f"`defaults: [schema_{name}, _self_]`, into a folder that {SEARCH_PATH} or --config-dir names."
        )
    return ""


def _without_package(group: str, name: str) -> str:
    """What the file of an option lacks whose keys are those of the whole configuration."""
    file = options(group).get(name)
    if group not in GLOBAL or file is None or PACKAGE in file.read_text(encoding="utf-8", errors="replace"):
        return ""
    return f"; {file} must begin with the line `{PACKAGE}`"


def _with_choice(complaint: str) -> str:
    """A complaint with the command line's choice in place of its class: `not in 'PTB'` becomes `not in dataset=ptb`."""
    for group in ("model", "dataset", "optimizer"):
        for name in choices(group):
            complaint = complaint.replace(f"'{lookup(group, name).__name__}'", f"{group}={name}")
    return complaint


def _missing_key(error: BaseException) -> str:
    """The full key of a missing value; OmegaConf names the key in one place and its parent in another."""
    key = str(getattr(error, "full_key", "") or "")
    name = str(error).splitlines()[0].rpartition(": ")[2]
    return key if key.endswith(name) else f"{key}.{name}".strip(".")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
