"""`sparsify` leaves alone what belongs to the caller's program: imports, Hydra, OmegaConf."""

import subprocess
import sys

from hydra.core.global_hydra import GlobalHydra
from sparsify_loop import Loop

from sparse_rnn import StepSparsifier

CALL = """
import torch
from sparse_rnn import sparsify
model = torch.nn.GRU(4, 8)
optimizer = torch.optim.Adam(model.parameters())
sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, method="rigl", growth="random", update_interval=2)
"""


def test_a_hydra_application_of_the_caller_s_stays_as_it_was():
    application = object()
    GlobalHydra.instance().hydra = application
    try:
        Loop()
        assert GlobalHydra.instance().hydra is application
    finally:
        GlobalHydra.instance().hydra = None


def test_the_package_offers_it_without_importing_torch_at_once():
    code = (
        "import sys, sparse_rnn; assert 'torch' not in sys.modules; from sparse_rnn import sparsify; "
        "from sparse_rnn.backends.own_network import sparsify as same; assert sparsify is same is sparse_rnn.sparsify"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(Loop().sparsifier, StepSparsifier)


def test_a_call_imports_neither_hydra_nor_what_experiments_need():
    code = (
        f"{CALL}\nimport sys\n"
        "heavy = {'hydra', 'wandb', 'submitit', 'pandas', 'matplotlib'}\n"
        "assert not heavy & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


APPLICATION = f"""
import copy
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.version import getbase
from omegaconf.basecontainer import BaseContainer

store = ConfigStore.instance()
store.store(name="schema", node={{"lr": 1.0}})
with initialize(version_base="1.1", config_path=None):
    repository, resolvers = copy.deepcopy(store.repo), dict(BaseContainer._resolvers)
    hydra, base = GlobalHydra.instance().hydra, getbase()
    {CALL.strip().replace(chr(10), chr(10) + "    ")}
    assert GlobalHydra.instance().hydra is hydra
    assert getbase() == base
    assert store.repo == repository
    assert BaseContainer._resolvers == resolvers
    assert compose("schema").lr == 1.0
"""


def test_the_global_state_of_an_application_stays_as_it_was():
    """The caller runs Hydra 1.1's way and has a schema called `schema`, as this project does."""
    subprocess.run([sys.executable, "-c", APPLICATION], check=True)
