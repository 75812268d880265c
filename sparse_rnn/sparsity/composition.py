"""What parts of a method do not go together."""

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import lookup
from sparse_rnn.sparsity.method import SparsifierConfig, make_structure
from sparse_rnn.sparsity.rules.growth import GrowthRule, Ordered
from sparse_rnn.sparsity.rules.initial import saliency_of


def refuse_unordered(method: SparsifierConfig, growth: GrowthRule) -> None:
    """Raise ConfigError if growth must choose within units and the rule only chooses from a whole group."""
    if method.regrows and make_structure(method).constant and not isinstance(growth, Ordered):
        raise ConfigError(
            f"growth={growth.name} ranks no weights, which sparsifier.structure={method.structure} needs to grow in "
            "every unit as many as it lost: choose another growth, or give the rule a method `order`."
        )


def check_composition(method: SparsifierConfig, growth: str) -> None:
    """Raise ConfigError if the parts of a method contradict each other."""
    grows = method.regrows
    if growth != "none" and not grows:
        raise ConfigError(f"sparsifier={method.name} never grows weights: leave growth={growth} out.")
    if growth == "none" and grows:
        raise ConfigError(f"sparsifier={method.name} removes weights and must grow as many: choose a growth.")
    if grows and method.initial == "dense" and not method.prunes:
        raise ConfigError(f"sparsifier={method.name} grows weights and cannot start from initial=dense.")
    if (growth == "reserve") != (method.removal == "reserve"):
        raise ConfigError(f"sparsifier.removal={method.removal} and growth={growth}: reserve goes with reserve only.")
    _check_schedule(method)
    if method.warms_up and (method.initial == "dense" or method.prunes):
        key = "dense_steps" if method.dense_steps else "dense_epochs"
        raise ConfigError(
            f"sparsifier={method.name} says itself how many weights there are at first: leave sparsifier.{key} out."
        )
    if saliency_of(method.initial) is not None:
        _check_scored(method)
    for key in ("sparsity", "groups"):
        if not method.masked and getattr(method, key):
            raise ConfigError(f"sparsifier={method.name} has no sparsity: leave sparsifier.{key} out.")
    if method.scope == "gate" and method.redistribution.startswith("gate_"):
        raise ConfigError(
            f"sparsifier.redistribution={method.redistribution} distributes among the gates of a group, but "
            "with sparsifier.scope=gate each group is a single gate: choose another scope."
        )


def _check_scored(method: SparsifierConfig) -> None:
    """Raise ConfigError for what does not go with a topology that is chosen entry by entry in the whole network."""
    for key, neutral in (("structure", "unstructured"), ("groups", {}), ("dense_steps", 0), ("dense_epochs", 0)):
        if getattr(method, key) != neutral:
            raise ConfigError(
                f"sparsifier.initial={method.initial} chooses single weights of the whole network before the first "
                f"step: leave sparsifier.{key} out."
            )


def _check_schedule(method: SparsifierConfig) -> None:
    """Raise ConfigError if the schedule does not go with the rule for removal, or with the first topology."""
    if method.scheduled and not lookup("removal", method.removal).exact:
        raise ConfigError(
            f"sparsifier.removal={method.removal} decides itself how many weights go, and sparsifier.schedule="
            f"{method.schedule} wants an exact number: choose another of them."
        )
    first = method.initial_sparsity
    if first is None:
        return
    if not method.scheduled or method.initial == "dense" or method.epsilon is not None:
        raise ConfigError(
            f"sparsifier.initial_sparsity={first} is for a sparse start that the schedule then changes: leave it out."
        )
    if not 0 <= first <= method.sparsity:
        raise ConfigError(f"sparsifier.initial_sparsity={first} must lie between 0 and sparsifier.sparsity.")
