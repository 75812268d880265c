"""The arguments of a command line of `python -m results`, parsed and checked."""

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparse_rnn.core.conf import unknown
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.tables.declaration import ALL, is_path, kind_of
from sparse_rnn.tables.overrides import parse_seeds
from sparse_rnn.tables.sweep import parse_sweep

from .names import BOLD, FORMATS, MEAN, RESULTS, RUNS, figures, findings, stem_of, tables
from .sweeps import NAME as SWEEP
from .sweeps import Sweep

FLAGS = {
    "table": {"--sweep", "--source", "--format", "--out", "--bold", "--allow-missing"},
    "figure": {"--sweep", "--x", "--source", "--out", "--allow-missing"},
    "findings": {"--source", "--out", "--allow-missing"},
    "compare": {"--metric", "--source", "--format", "--allow-missing"},
    "tuning": {"--format", "--out"},
    "refresh": set(),
    "site": {"--source", "--out"},
    "fetch": {"--out"},
    "sync": {"--source"},
}

SWITCHES = {"--allow-missing"}

NAMES: dict[str, Callable[[], list[str]]] = {"table": tables, "figure": figures, "findings": findings}


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    names: of tables or figures; for fetch and sync, of a project. sides: the two sets of overrides that `compare`
    compares. overrides: key=value pairs that go to every run. seeds: None for those of each table. format: None for the
    command's default. out: where to write. bold: what a table has in bold, of BOLD. metric: what is compared, None for
    the test result. sweep: another table or figure, made of a sweep.
    """

    command: str
    names: list[str] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    seeds: list[int] | None = None
    source: str = RUNS
    format: str | None = None
    out: Path | None = None
    bold: str = MEAN
    metric: str | None = None
    allow_missing: bool = False
    sweep: Sweep | None = None

    def again(self, *words: str) -> str:
        """The command line of these words for the same runs and source."""
        source = ["--source", self.source] if self.source != RUNS else []
        bold = ["--bold", self.bold] if self.bold != MEAN else []
        return shlex.join(["python", "-m", RESULTS, *words, *self.arguments, *bold, *source])

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
    sides: list[str] = []
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
        elif key == "seeds" and equals:
            seeds = parse_seeds(value)
        elif command == "compare" and len(sides) < 2:
            sides.append(argument)
        elif not equals:
            names.append(argument)
        elif key.lstrip("+").partition(".")[0] == "cluster":
            continue  # tells `launch` where to submit; accepted so that its command line can be reused
        else:
            overrides.append(argument)
    _check_sides(command, sides, names)
    request = Request(command, _names(command, names, swept), sides, overrides, seeds)
    return replace(
        request,
        source=options.get("--source", RUNS),
        format=_format(options.get("--format")),
        out=Path(options["--out"]) if "--out" in options else None,
        bold=_one_of("--bold", options.get("--bold", MEAN), BOLD),
        metric=options.get("--metric"),
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
    return None if name is None else _one_of("--format", name, FORMATS)


def _one_of(key: str, name: str, known: Collection[str]) -> str:
    if name not in known:
        raise ConfigError(f"{key} {name} does not exist{suggest(name, known)}.")
    return name


def _check_sides(command: str, sides: Sequence[str], names: Sequence[str]) -> None:
    if command != "compare":
        return
    if len(sides) < 2 or names:
        raise ConfigError(
            "compare needs two sets of overrides, each in quotation marks, and then what both have in common, as in "
            "`compare 'sparsifier=selfish' 'sparsifier=rigl' model=stacked_lstm dataset=ptb budget=reduced`"
            f"{f': {names[0]} is none' if names else ''}."
        )


def _names(command: str, names: list[str], swept: list[str]) -> list[str]:
    if command == "refresh" and not names:
        raise ConfigError("Which page? Give Markdown files, as in `refresh README.md`.")
    if command == "site" and names:
        raise ConfigError(f"site shows every table and figure: leave {names[0]} out.")
    if command not in NAMES:
        return names
    known, kind = NAMES[command](), command.removesuffix("s")
    if ALL in names or (command == "findings" and not names):
        return known
    for name in names:
        if is_path(name):
            if (other := kind_of(name)) != kind:
                raise ConfigError(f"{name} is no {kind}: it is a {other}.")
        elif name not in known:
            others = [each.removesuffix("s") for each, listed in NAMES.items() if name in listed()]
            hint = f": it is a {others[0]}" if others else unknown(name, known)
            raise ConfigError(f"{name} is no {kind}{hint}.")
    if not names and not swept:
        raise ConfigError(f"Which {command}? Give names, as in `{command} {known[0]}`, or all, or --sweep '...'.")
    once = list(dict.fromkeys(names))
    for stem, count in Counter(map(stem_of, once)).items():
        if count > 1:  # the files that are written have this name
            raise ConfigError(f"{count} of these {kind}s have the name {stem}: rename a file, or give one of them.")
    return once
