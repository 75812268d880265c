"""All checks, in the order in which they are shown."""

from collections.abc import Iterator

from sparse_rnn.diagnosis import folders, packages, services
from sparse_rnn.diagnosis.apart import examine_apart
from sparse_rnn.diagnosis.finding import Finding

QUICK = (
    *(packages.base, packages.commands, packages.extras),
    *(folders.configuration, folders.runs, folders.data),
    *(services.slurm, services.wandb),
)


def examine() -> Iterator[Finding]:
    """What all checks find, one after the other; never raises."""
    for look in QUICK:
        yield look()
    yield from examine_apart()
