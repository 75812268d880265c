"""The arguments of a command line of `python -m results`, parsed and checked."""

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparse_rnn.core.conf import unknown
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.tables.declaration import ALL, is_path, kind_of
from sparse_rnn.tables.overrides import parse_seeds
from sparse_rnn.tables.sweep import parse_sweep

from .names import FORMATS, RESULTS, RUNS, figures, stem_of, tables
from .sweeps import NAME as SWEEP
from .sweeps import Sweep

FLAGS = {
    "table": {"--sweep", "--source", "--format", "--out", "--allow-missing"},
    "figure": {"--sweep", "--x", "--source", "--out", "--allow-missing"},
    "site": {"--source", "--out"},
    "fetch": {"--out"},
    "sync": {"--source"},
}

SWITCHES = {"--allow-missing"}

NAMES: dict[str, Callable[[], list[str]]] = {"table": tables, "figure": figures}


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    names: of tables or figures; for fetch and sync, of a project. overrides: key=value pairs that go to every run.
    seeds: None for those of each table. format: None for the command's default. out: where to write. sweep: another
    table or figure, made of a sweep.
    """

    command: str
    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    seeds: list[int] | None = None
    source: str = RUNS
    format: str | None = None
    out: Path | None = None
    allow_missing: bool = False
    sweep: Sweep | None = None

    def again(self, *words: str) -> str:
        """The command line of these words for the same runs and source."""
        source = ["--source", self.source] if self.source != RUNS else []
        return shlex.join(["python", "-m", RESULTS, *words, *self.arguments, *source])

    @property
    def asked(self) -> list[str]:
        """The names of all tables or figures, that of the sweep last."""
        return [*self.names, *([SWEEP] if self.sweep else [])]

    def words(self, name: str) -> list[str]:
        """A table or figure as the words of a command line."""
        return self.sweep.arguments if self.sweep and name == SWEEP else [name]

    @property
    def arguments(self) -> list[str]:
        """The overrides and seeds, as they are written on a command line."""
        return [*self.overrides, *([f"seeds={','.join(map(str, self.seeds))}"] if self.seeds else [])]


def parse(command: str, arguments: Sequence[str]) -> Request:
    """The request that the words after the command make; raises ConfigError."""
    names: list[str] = []
    overrides: list[str] = []
    options: dict[str, str] = {}
    seeds: list[int] | None = None
    swept: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.partition("=")
        if key.startswith("--"):
            name = _option(command, key)
            options[name] = _value(name, value if equals else None, rest) if name not in SWITCHES else "yes"
            swept += parse_sweep(options[name]) if name == "--sweep" else []
        elif not equals:
            names.append(argument)
        elif key == "seeds":
            seeds = parse_seeds(value)
        elif key.lstrip("+").partition(".")[0] == "cluster":
            continue  # tells `launch` where to submit; accepted so that its command line can be reused
        else:
            overrides.append(argument)
    request = Request(command, _names(command, names, swept), overrides, seeds)
    return replace(
        request,
        source=options.get("--source", RUNS),
        format=_format(options.get("--format")),
        out=Path(options["--out"]) if "--out" in options else None,
        allow_missing="--allow-missing" in options,
        sweep=_sweep(swept, overrides, seeds, options.get("--x")),
    )


def _option(command: str, key: str) -> str:
    if key not in FLAGS[command]:
        raise ConfigError(f"{command} does not know {key}{suggest(key, FLAGS[command])}.")
    return key


def _sweep(swept: list[str], overrides: list[str], seeds: list[int] | None, x: str | None) -> Sweep | None:
    if x is not None and not swept:
        raise ConfigError(f"--x {x} chooses what a sweep is drawn over: give --sweep '...' as well.")
    return Sweep(swept, overrides, seeds, x) if swept else None


def _value(key: str, given: str | None, rest: list[str]) -> str:
    value = given or (rest.pop(0) if rest and given is None else "")
    if not value:
        raise ConfigError(f"{key} needs a value.")
    return value


def _format(name: str | None) -> str | None:
    if name is not None and name not in FORMATS:
        raise ConfigError(f"--format {name} does not exist{suggest(name, FORMATS)}.")
    return name


def _names(command: str, names: list[str], swept: list[str]) -> list[str]:
    if command == "site" and names:
        raise ConfigError(f"site shows every table and figure: leave {names[0]} out.")
    if command not in NAMES:
        return names
    known = NAMES[command]()
    if ALL in names:
        return known
    for name in names:
        if is_path(name):
            if (kind := kind_of(name)) != command:
                raise ConfigError(f"{name} is no {command}: it is a {kind}.")
        elif name not in known:
            other = "figure" if command == "table" else "table"
            hint = f": it is a {other}" if name in NAMES[other]() else unknown(name, known)
            raise ConfigError(f"{name} is no {command}{hint}.")
    if not names and not swept:
        raise ConfigError(f"Which {command}? Give names, as in `{command} {known[0]}`, or all, or --sweep '...'.")
    once = list(dict.fromkeys(names))
    for stem, count in Counter(map(stem_of, once)).items():
        if count > 1:  # the files that are written have this name
            raise ConfigError(f"{count} of these {command}s have the name {stem}: rename a file, or give one of them.")
    return once
