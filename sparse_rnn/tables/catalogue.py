"""The facts of runs, remembered between commands: composing the hundreds of runs of the tables takes seconds."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparse_rnn.core.conf import files_of_runs
from sparse_rnn.core.files import write_json
from sparse_rnn.core.plugins import plugin_files
from sparse_rnn.core.progress import bar
from sparse_rnn.core.reading import read_cache
from sparse_rnn.core.shapes import misfit
from sparse_rnn.data.content import OWN
from sparse_rnn.tables.run_facts import RunFacts


class Catalogue:
    """RunFacts by overrides, in a file of `folder` that is discarded when code or configuration files change."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "catalogue.json"
        self._changed = False
        self._advance: Callable[[float], None] = lambda done: None

    @contextmanager
    def expecting(self, runs: int) -> Iterator[None]:
        """Within it, a bar shows how many of these runs have been asked for: composing one takes a moment."""
        with bar("composing runs", runs) as self._advance:
            yield
        self._advance = lambda done: None

    def facts(self, overrides: Sequence[str]) -> RunFacts:
        """The facts of the run with these overrides; raises ConfigError."""
        self._advance(1)
        key = json.dumps(list(overrides))
        if key in self._known and not misfit(self._known[key], RunFacts):
            return RunFacts(**self._known[key])
        facts = self._compose(overrides)
        if facts.config["dataset"]["name"] not in OWN:  # what their files hold decides the facts
            self._known[key] = asdict(facts)
            self._changed = True
        return facts

    def save(self) -> None:
        """Write what was composed since the catalogue was read; without effect where the folder cannot be written."""
        if not self._changed:
            return
        with suppress(OSError):  # the file only saves time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"fingerprint": self._fingerprint, "runs": self._known})

    @cached_property
    def _known(self) -> dict[str, Any]:
        stored = read_cache(self._path)
        known = stored.get("runs") if stored.get("fingerprint") == self._fingerprint else None
        return known if isinstance(known, dict) else {}

    @cached_property
    def _fingerprint(self) -> str:
        """Changes with every file that decides what overrides mean."""
        total = hashlib.sha256(f"{version('hydra-core')} {sys.version}".encode())
        code = {*Path(__file__).parent.parent.rglob("*.py"), *plugin_files()}
        for path in (*files_of_runs(), *sorted(code)):
            facts = path.stat()
            total.update(f"{path}{facts.st_size}{facts.st_mtime_ns}".encode())
        return total.hexdigest()

    @cached_property
    def _compose(self) -> Callable[[Sequence[str]], RunFacts]:
        # Brings torch and Hydra, for which a command whose runs are all remembered need not wait.
        from sparse_rnn.tables.run_composition import Composition

        return Composition().facts
