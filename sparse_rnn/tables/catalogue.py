"""What is known of a run before it starts, remembered between commands: composing hundreds of runs takes seconds."""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.files import read_json, write_json

if TYPE_CHECKING:
    from sparse_rnn.config.composer import Composer
    from sparse_rnn.runs.flops import Flops


READ_BY_SIZE = ("text", "labelled_text")
NOT_OF_A_RUN = ("cluster", "table", "figure")


@dataclass(frozen=True)
class RunFacts:
    """What a run is: id, configuration (as_dict), training tokens of all epochs, FLOPs as the papers count.

    tokens and flops, which are those of training, are None where the size of the data is unknown. flops_test: of one
    minibatch. The ratios are to the same model dense.
    """

    run_id: str
    config: dict[str, Any]
    tokens: int | None
    flops: float | None
    flops_test: float
    flops_train_ratio: float
    flops_test_ratio: float


class Catalogue:
    """RunFacts by overrides, in a file of `folder` that is thrown away when code or configuration files change."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "catalogue.json"
        self._changed = False
        self._flops: dict[str, Flops] = {}

    def facts(self, overrides: Sequence[str]) -> RunFacts:
        """What the run of these overrides is; raises ConfigError."""
        key = json.dumps(list(overrides))
        if key in self._known:
            return RunFacts(**self._known[key])
        facts = self._compose(overrides)
        if facts.config["dataset"]["name"] not in READ_BY_SIZE:
            self._known[key] = asdict(facts)
            self._changed = True
        return facts

    def save(self) -> None:
        """Remember what has been composed since."""
        if not self._changed:
            return
        with suppress(OSError):  # it only saves time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"fingerprint": self._fingerprint, "runs": self._known})

    @cached_property
    def _known(self) -> dict[str, Any]:
        stored = read_json(self._path)
        known = stored.get("runs") if stored.get("fingerprint") == self._fingerprint else None
        return known if isinstance(known, dict) else {}

    @cached_property
    def _fingerprint(self) -> str:
        """Changes with every file that decides what overrides mean."""
        total = hashlib.sha256(f"{version('hydra-core')} {sys.version}".encode())
        for root, pattern in ((config_dir(), "*.yaml"), (Path(__file__).parent.parent, "*.py")):
            for path in sorted(root.rglob(pattern)):
                if path.parent.name in NOT_OF_A_RUN:
                    continue
                facts = path.stat()
                total.update(f"{path}{facts.st_size}{facts.st_mtime_ns}".encode())
        return total.hexdigest()

    @cached_property
    def _composer(self) -> "Composer":
        from sparse_rnn.config.composer import Composer

        return Composer()

    def _compose(self, overrides: Sequence[str]) -> RunFacts:
        from sparse_rnn.config.identity import as_dict, run_id
        from sparse_rnn.runs.flops import run_flops

        run = self._composer.compose(overrides)
        config = as_dict(run)
        seedless = repr({**config, "seed": None, "init_seed": None})
        if seedless not in self._flops:
            self._flops[seedless] = run_flops(run)
        flops = self._flops[seedless]
        ratios = (flops.train_ratio, flops.test_ratio)
        return RunFacts(run_id(run), config, flops.tokens, flops.train, flops.test, *ratios)
