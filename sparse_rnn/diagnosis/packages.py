"""Packages: those that `sparsify` needs, those of the commands, and the extras beside."""

import re
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec

from sparse_rnn.core.extras import EXTRA, IMPORTED
from sparse_rnn.core.wording import counted
from sparse_rnn.diagnosis.finding import Finding, State, check

BASE = ("torch", "numpy", "omegaconf")
DISTRIBUTION = "sparse-rnn"
OTHER_VERSION = "pip check says more; pip install -U with the names above, or make setup in a checkout"


@check("packages", needed=True, otherwise="reinstall: pip install --force-reinstall sparse-rnn")
def base() -> Finding:
    """The versions of what everything needs."""
    found = {name: _version(name) for name in BASE}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    lacking = [name for name, number in found.items() if not number]
    return Finding(text, State.FAILED, f"pip install {' '.join(lacking)}") if lacking else Finding(text)


@check("commands", needed=True, otherwise=f"pip install 'sparse-rnn[{EXTRA}]'")
def commands() -> Finding:
    """Whether the packages of the commands are there, in the versions that are asked for."""
    lacking = sorted(name for name in IMPORTED if find_spec(name) is None)
    if lacking:
        advice = f"pip install 'sparse-rnn[{EXTRA}]'; sparsify() works without"
        return Finding(f"no command works without {', '.join(lacking)}", State.FAILED, advice)
    if wrong := _wrong_versions(["", EXTRA]):
        return Finding(", ".join(wrong), State.FAILED, OTHER_VERSION)
    return Finding(f"hydra-core {version('hydra-core')}, pandas {version('pandas')} and what else they need")


@check("imports", needed=True, otherwise="pip install --force-reinstall what it names")
def imports() -> Finding:
    """Whether what is there of the packages of the commands can be imported."""
    there = sorted(name for name in IMPORTED if find_spec(name))
    for name in there:
        try:
            import_module(name)
        except Exception as error:
            return Finding(f"{name}: {error}", State.FAILED, f"pip install --force-reinstall {name}, or what it names")
    return Finding(f"{counted(len(there), 'package')} of the commands can be imported")


@check("extras", needed=False, otherwise="pip install -e . in a checkout, or pip install sparse-rnn")
def extras() -> Finding:
    """Which extras are complete."""
    if (installed := _installed()) is None:
        return Finding("unknown, because this code is not installed", State.NOTE, "pip install -e . in a checkout")
    names = sorted(installed.metadata.get_all("Provides-Extra") or [])
    complete = [name for name in names if all(_version(each) for each in _brought_by(name))]
    others = sorted({*names} - {*complete})
    text = f"{', '.join(complete) or 'none'}; not installed: {', '.join(others) or 'none'}"
    wrong = _wrong_versions(["", *complete])
    return Finding(f"{text}; {', '.join(wrong)}", State.NOTE, OTHER_VERSION) if wrong else Finding(text)


@cache
def _installed() -> Distribution | None:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lines(extra: str) -> list[str]:
    """The requirements of an extra, of the package itself for an empty name."""
    wanted = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]") if extra else None
    installed = _installed()
    lines = (installed.requires or []) if installed else []
    return [line for line in lines if (wanted.search(line) if wanted else "extra ==" not in line)]


def _brought_by(extra: str) -> set[str]:
    """Names of the distributions that an extra brings, without those that it has from another one."""
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in _lines(extra)}
    return names - {DISTRIBUTION}


def _wrong_versions(extras: Iterable[str]) -> list[str]:
    """What is installed in another version than asked for, in words; nothing if the package `packaging` is missing."""
    if find_spec("packaging") is None:
        return []
    from packaging.requirements import Requirement

    wrong = []
    for requirement in (Requirement(line) for extra in extras for line in _lines(extra)):
        number = _version(requirement.name)
        if number and not requirement.specifier.contains(number, prereleases=True):
            wrong.append(f"{requirement.name} is {number}, not {requirement.specifier}")
    return list(dict.fromkeys(wrong))
