"""Facts of runs that no catalogue remembers: composed by Hydra, counted on a model built by torch."""

from collections.abc import Sequence

from sparse_rnn.config.composer import Composer
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.data.content import OWN, content
from sparse_rnn.runs.flops import Flops, run_flops
from sparse_rnn.tables.run_facts import RunFacts

READ_FOR_SIZES = (*OWN, "pydoc", "pydoc_topics")


class Composition:
    """Composes runs; those that differ only in their seeds are counted once."""

    def __init__(self) -> None:
        self._composer = Composer()
        self._flops: dict[str, Flops] = {}

    def facts(self, overrides: Sequence[str]) -> RunFacts:
        """The facts of the run with these overrides; raises ConfigError."""
        run = self._composer.compose(overrides)
        config = as_dict(run)
        seedless = repr({**config, "seed": None, "init_seed": None})
        if seedless not in self._flops:
            self._flops[seedless] = run_flops(run)
        flops = self._flops[seedless]
        costs = flops.tokens, flops.train, flops.test, flops.train_ratio, flops.test_ratio
        data = content(run.dataset) if run.dataset.name in READ_FOR_SIZES else None
        return RunFacts(run_id(run), config, *costs, data)
