"""What Hydra composes from the folder of configuration files. Knows no schema, and imports no torch."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from sparse_rnn.core.conf import config_dir, search_path


def compose_file(name: str, overrides: Sequence[str]) -> DictConfig:
    """The file `name` of the configuration folder under overrides; raises what Hydra and OmegaConf do."""
    # Hydra keeps one global instance: one left by a composition before, as in a notebook, would refuse ours.
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name, [*overrides, *searched()])


def searched() -> list[str]:
    """The override that makes Hydra search the folders of users; none if there are none. Raises ConfigError."""
    own = [QuotedString(f"file://{folder}", Quote.single).with_quotes() for folder in search_path()[1:]]
    return [f"hydra.searchpath=[{','.join(own)}]"] if own else []
