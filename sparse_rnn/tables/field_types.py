"""What single keys of a table's file may hold. Each description ends the sentence "KEY must be ..." of an error."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.tables.settings import key_of, merged

COLUMNS = ("parameters", "valid", "test", "accuracy", "flops_train", "flops_test", "flops_train_integrated")
Value = str | int | float
Entries = TypeVar("Entries", bound=tuple[Any, ...])


def _different(entries: Entries) -> Entries:
    if twice := [entry for entry in entries if entries.count(entry) > 1]:
        raise ValueError(f"must all be different, but {twice[0]} is listed twice")
    return entries


def _differently_labelled(parts: Entries) -> Entries:
    labels = [part.label for part in parts]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"must have different labels, but two have {twice[0]!r}")
    return parts


def _columns(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValueError(f"has {unknown[0]}, which is not a column{suggest(unknown[0], COLUMNS)}")
    return names


def _without_seed(overrides: tuple[str, ...]) -> tuple[str, ...]:
    if "seed" in merged(overrides):
        raise ValueError("must not set seed: list it under seeds")
    return overrides


def _not_empty(axis: object) -> object:
    if axis is None:
        raise ValueError("must be a mapping with key and values")
    return axis


def _not_seed(key: str) -> str:
    if key == "seed":
        raise ValueError("must not be seed: list its values under seeds")
    return key


SEEDS = "a list of different whole numbers from 0 up, with at least one"

Text = Annotated[StrictStr, Field(pattern=r"\S", description="text")]
Flag = Annotated[StrictBool, Field(description="true or false")]
Columns = Annotated[
    tuple[StrictStr, ...],
    Field(min_length=1, description=f"a list of different names among {', '.join(COLUMNS)}"),
    AfterValidator(_columns),
    AfterValidator(_different),
]
Seeds = Annotated[
    tuple[Annotated[StrictInt, Field(ge=0)], ...],
    Field(min_length=1, description=SEEDS),
    AfterValidator(_different),
]
Overrides = Annotated[
    tuple[Annotated[StrictStr, Field(pattern="=|^~")], ...],
    Field(min_length=1, description="a list of overrides like sparsifier.sparsity=0.8, with at least one"),
    AfterValidator(_without_seed),
]
Key = Annotated[Text, AfterValidator(key_of), AfterValidator(_not_seed)]
Values = Annotated[
    tuple[StrictStr | StrictInt | StrictFloat, ...],
    Field(min_length=1, description="a list of different values, with at least one"),
    AfterValidator(_different),
]
Margin = Annotated[StrictFloat | StrictInt, Field(ge=0, description="a number from 0 up")]
DifferentLabels = AfterValidator(_differently_labelled)
GivenAxis = BeforeValidator(_not_empty)  # leaving x out is not the same as leaving it empty


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ConfigError unless `seeds` are what a file may list under seeds."""
    try:
        TypeAdapter(Seeds).validate_python(tuple(seeds))
    except ValidationError:
        raise ConfigError(f"seeds must be {SEEDS}.") from None
