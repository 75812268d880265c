"""What Hydra and OmegaConf say about a configuration, as one sentence.

Hydra raises one class for most errors of composition: those are recognized by their English, and tests hold each text.
"""

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    InterpolationValidationError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from sparse_rnn.core.conf import GROUPS
from sparse_rnn.core.errors import suggest
from sparse_rnn.core.registry import choices, lookup


def explain(error: BaseException) -> str:
    """One sentence that says what is wrong with a configuration, and what to do."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        known = [option for option in error.options or [] if not option.startswith("schema")]
        without = "; recipe=none goes without, by settings of your own" if group == "recipe" else ""
        return f"{group}={name} does not exist{suggest(name, known)}{without}."
    if isinstance(error, InterpolationToMissingValueError | InterpolationValidationError):
        return f"{error.full_key} is not set: give it a value, or choose a recipe that does."
    if isinstance(error, MissingMandatoryValue) or isinstance(cause, MissingMandatoryValue):
        return f"{_missing_key(error)} is not set: give it a value, or choose a recipe that does."
    if "interpolation key" in str(error) and "${budget}/${model}" in str(error):
        return f"{', '.join(GROUPS)} are config groups: each needs one name, as in model=rhn."
    if "raised while composing config" in str(error):
        where, what, *_ = str(error).splitlines()
        option = where.split("'")[1].replace("/", "=", 1)
        return f"{option} does not go with the other choices: {_with_choice(what.rstrip('.').replace('Key', 'key'))}."
    if "Ambiguous value for argument" in str(error):
        return f"{_first_line(error)} (several values need -m)."
    if isinstance(error, OverrideParseException):
        return f"The override {str(error.override)!r} cannot be read: write key=value, quoted if the value is unusual."
    if isinstance(error, ValidationError) or isinstance(cause, ValidationError):
        found = cause if isinstance(cause, ValidationError) else error
        return f"{getattr(found, 'full_key', '')}: {_first_line(found)}."
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        known = list(cause.parent_node) if isinstance(cause.parent_node, DictConfig) else []
        return f"{cause.full_key or cause.key} is not a key of the configuration{suggest(str(cause.key), known)}."
    return f"{_first_line(cause if isinstance(cause, OmegaConfBaseException) else error)}."


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
