"""FLOPs against the papers' (Selfish-RNN Tables 2 and 9, appendix L; ST-RNN Table 2) and against sums by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.own import PyDocTopics
from sparse_rnn.runs.flops import Flops, mean_densities, mean_density, run_flops
from sparse_rnn.sparsity.sparsifier import Clock
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.assembly import make_sparsifier

RHN_528, RHN_68 = "model=rhn sparsifier.sparsity=0.528", "model=rhn sparsifier.sparsity=0.68"
PTB, ALL, EMBEDDING = 929_589, 51e6, 15e6  # of the stacked LSTM: weights used every token, and those looked up


def composed(overrides: str) -> Run:
    return compose_run(overrides.split())


def flops(overrides: str) -> Flops:
    """The FLOPs of a configuration."""
    return run_flops(composed(overrides))


@pytest.mark.parametrize(
    ("overrides", "train", "test", "as_printed"),
    [
        # 2 x 51M forward; three times that and the embedding's gradient; 100 epochs
        ("", (6 * ALL + 2 * EMBEDDING) * PTB * 100, 2 * ALL * 700, ("3.12e16", "7.14e10")),
        # V x 830, W and ten R of 1660 x 830; 500 epochs
        ("model=rhn", 6 * 23_455_800 * PTB * 500, 2 * 23_455_800 * 700, ("6.54e16", "3.28e10")),
    ],
)
def test_dense_models(overrides: str, train: float, test: float, as_printed: tuple[str, str]) -> None:
    found = flops(f"{overrides} sparsifier=dense")
    assert found.train == pytest.approx(train, rel=1e-12)
    assert found.test == pytest.approx(test, rel=1e-12)
    assert tuple(f"{number:.2e}".replace("+", "") for number in (found.train, found.test)) == as_printed
    assert (found.train_ratio, found.test_ratio) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("overrides", "train", "test"),
    [
        ("sparsifier=selfish", 0.330, 0.330),
        ("sparsifier=static_uniform", 0.330, 0.330),
        ("sparsifier=set", 0.3327, 0.3344),
        ("sparsifier=rigl", 0.3327, 0.3344),
        ("sparsifier=static_er sparsifier.sparsity=0.62", 0.3831, 0.3851),
        ("sparsifier=static_er sparsifier.sparsity=0.8", 0.2016, 0.2027),
        ("sparsifier=gmp", 0.632, 0.330),
        (f"{RHN_528} sparsifier=gmp", 0.617, 0.472),
        (f"{RHN_68} sparsifier=gmp", 0.507, 0.320),
        ("sparsifier=snfs optimizer=adam", (2 * 0.33 * 51 + 66) / 168, 0.330),
        (f"{RHN_528} sparsifier=snfs optimizer=adam", (2 * 0.472 + 1) / 3, 0.472),
        ("sparsifier=snfs optimizer=snt_asgd", 0.330, 0.330),  # reads gradients, at updates alone
        (f"{RHN_528} sparsifier=selfish", 0.472, 0.472),
        (f"{RHN_528} sparsifier=set", 0.472, 0.472),
        (f"{RHN_528} sparsifier=st_rnn", 0.472, 0.472),
        (f"{RHN_68} sparsifier=dsr", 0.320, 0.320),
        ("model=on_lstm", 0.450, 0.450),
        ("sparsifier=iss recipe=iss_stacked_lstm optimizer=sgd", 1.0, 1.0),
    ],
)
def test_ratios_to_the_dense_model(overrides: str, train: float, test: float) -> None:
    found = flops(overrides)
    assert found.train_ratio == pytest.approx(train, abs=6e-4 if "gmp" in overrides else 6e-5)
    assert found.test_ratio == pytest.approx(test, abs=6e-5)


@pytest.mark.parametrize(
    ("others", "embedding", "train", "test"),
    [
        (0.363, 0.224, 0.613, 0.363),  # ST-RNN's SNFS: the embedding's density does not matter, its gradient is dense
        (0.38, 0.16, 0.624, 0.38),
    ],
)
def test_measured_densities_of_snfs(others: float, embedding: float, train: float, test: float) -> None:
    """train = (2 x 51 a + 66) / 168, facts of Selfish-RNN Table 9."""
    weights = [f"lstm.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)]
    densities = dict.fromkeys([*weights, "decoder.weight"], others) | {"embedding.weight": embedding}
    found = run_flops(composed("sparsifier=snfs optimizer=adam"), densities)
    assert (found.train_ratio, found.test_ratio) == pytest.approx((train, test), abs=6e-4)


def test_measured_densities_of_dsr() -> None:
    """(3 x 51 x .4 + 15 x .09) / 168; a weight that is not named keeps what it has when training begins."""
    weights = [f"lstm.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)]
    densities = dict.fromkeys(weights, 0.4) | {"decoder.weight": 0.4, "embedding.weight": 0.09}
    assert run_flops(composed("sparsifier=dsr"), densities).train_ratio == pytest.approx(0.3723, abs=6e-5)
    del densities["embedding.weight"]
    assert run_flops(composed("sparsifier=dsr"), densities).train_ratio == pytest.approx(0.3938, abs=6e-5)


def test_the_mixture_decodes_once_an_expert() -> None:
    """About 175 million multiplications a token, 2.2e18 operations of training."""
    found = flops("model=awd_lstm_mos dataset=wikitext2 sparsifier=dense")
    lstm = 4 * (1150 * (300 + 1150) + 1150 * (1150 + 1150) + 650 * (1150 + 650))
    each = 15 * 33_278 * 300 + 650 * 15 * 300 + 650 * 15 + lstm
    assert each == pytest.approx(175e6, rel=0.01)
    assert found.test == 2 * each * 15 * 70
    assert found.train == pytest.approx(2.19e18, rel=1e-3)


def test_the_classifier_decodes_once_a_text() -> None:
    """100 tokens of eight gate matrices of 256 x 256, 4.3% of which epsilon leaves, and one dense output layer."""
    dense = flops("model=lstm_classifier dataset=imdb sparsifier=dense optimizer=adam")
    text = 100 * 8 * 256 * 256 + 2 * 256
    assert dense.test == 2 * text * 256
    assert dense.tokens == 22_500 * 100 * composed("model=lstm_classifier dataset=imdb").training.epochs
    assert dense.train == pytest.approx((6 * text + 2 * 100 * 20_000 * 256) * dense.tokens / 100)
    sparse = flops("model=lstm_classifier dataset=imdb sparsifier=st_rnn")
    assert sparse.test == 2 * 256 * (100 * 8 * 10 * (256 + 256) + 2 * 256)


@pytest.mark.parametrize(
    ("dataset", "texts"),
    [
        ("imdb", 25_000 * 9 // 10),
        ("ag_news", 120_000 * 9 // 10),
        ("yelp_polarity", 560_000 * 9 // 10),
        ("sanders_twitter", 4_410 * 9 // 10),
        ("yelp2018", 120_000 * 9 // 10),
        ("amazon_fine_food", 454_763 - 45_476),
    ],
)
def test_published_training_texts(dataset: str, texts: int) -> None:
    """ST-RNN's Table 1, of which a tenth is held out; no data are read."""
    run = composed(f"model=lstm_classifier dataset={dataset}")
    assert run.dataset.train_tokens(None) == texts * 100
    assert run.dataset.train_tokens(1_050) == 1_000
    assert run.dataset.train_tokens(5) == 100


@pytest.mark.parametrize("limit", [None, 2_420, 5])
def test_published_texts_are_divided_as_the_loader_does(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = PyDocTopics()
    monkeypatch.setattr(PyDocTopics, "published", sum(1 for _ in topics.examples()["train"]))
    loaded = topics.load().limited(limit, None).splits["train"].tokens.numel()
    assert topics.train_tokens(limit) == loaded
    assert LabelledDataset.train_tokens(topics, limit) == loaded


def test_a_limit_counts() -> None:
    assert flops("dataset=wikitext2 budget.train_tokens=5000").tokens == 5_000 * 100
    assert flops("dataset=ptb budget.train_tokens=99999999").tokens == PTB * 100
    pydoc = composed("dataset=pydoc")
    assert pydoc.dataset.train_tokens(None) == pydoc.dataset.load().counts["train"]
    assert pydoc.dataset.train_tokens(100) == 100


def test_a_size_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios and test need no size; pruning every 100 steps is averaged by epochs."""
    run = composed("sparsifier=gmp")
    monkeypatch.setattr(type(run.dataset), "train_tokens", lambda self, limit: None)
    found = run_flops(run)
    assert (found.train, found.tokens) == (None, None)
    assert found.train_ratio == pytest.approx(0.632, abs=4e-3)


def test_mean_density_of_pruning_at_two_epochs_of_four() -> None:
    """S = .8 in a window of 0 to 1: 1, then 1 - .8 (1 - .75^3), 1 - .8 (1 - .5^3), 1 - .8 (1 - .25^3)."""
    config = composed("sparsifier=gmp sparsifier.sparsity=0.8").sparsifier
    whole = replace(config, prune_start=0.0, prune_end=1.0)
    assert mean_density(whole, 4) == pytest.approx((1 + 0.5375 + 0.3 + 0.2125) / 4)
    # a window of .25 to .75: nothing before .25, half of it done at .5, all at .75
    window = replace(config, prune_start=0.25, prune_end=0.75)
    assert mean_density(window, 4) == pytest.approx((1 + 1 + 0.3 + 0.2) / 4)
    assert mean_density(window, 1) == pytest.approx(0.75 * 1 + 0.25 * 0.2)


@pytest.mark.parametrize("model", ["stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos"])
def test_every_weight_is_used_once_a_token_but_for_what_the_model_says(model: str) -> None:
    with torch.device("meta"):
        built = composed(f"model={model} optimizer=adam").model.build(100)
    uses = built.weight_uses(7)
    assert uses.pop("embedding.weight") == {"stacked_lstm": 0, "awd_lstm_mos": 15 * 7}.get(model, 7)
    assert set(uses.values()) == {7}
    assert uses.keys() | {"embedding.weight"} == {name for name, p in built.named_parameters() if p.dim() >= 2}


@pytest.mark.parametrize(("interval", "updates"), [("epoch", 10), ("7", 300 // 7), ("100", 3)])
def test_mean_density_of_pruning_is_that_of_the_sparsifier_at_work(interval: str, updates: int) -> None:
    """300 steps in 10 epochs; what is active is counted before each."""
    run = composed(f"sparsifier=gmp sparsifier.update_interval={interval}")
    model = nn.Linear(40, 40)
    topology = SparseTopology.of(model)
    sparsifier = make_sparsifier(run, topology, torch.optim.SGD(model.parameters(), 0.1))
    densities = []
    for step in range(300):
        densities.append(topology.active / topology.size)
        clock = Clock(step + 1, step // 30, 10, step % 30 + 1, 30)
        sparsifier.after_step(clock)
        if clock.batch == clock.batches:
            sparsifier.after_epoch(clock)
    assert mean_density(run.sparsifier, updates) == pytest.approx(sum(densities) / len(densities), abs=1e-4)


def test_densities_over_time_are_weighted_by_steps() -> None:
    run = composed("sparsifier=snfs optimizer=adam sparsifier.initial=uniform")
    rows = [
        {"step": 100, "train/loss_recent": 6.0},
        {"step": 300, "sparsity/lstm.weight_hh_l0": 0.5, "sparsity/embedding.weight": 0.9},
        {"step": 500, "sparsity/lstm.weight_hh_l0": 0.1},
        {"step": 1000},
    ]
    found = mean_densities(run, rows)
    assert found["lstm.weight_hh_l0"] == pytest.approx((300 * 0.33 + 200 * 0.5 + 500 * 0.9) / 1000)
    assert found["embedding.weight"] == pytest.approx((300 * 0.33 + 700 * 0.1) / 1000)
    assert found["lstm.weight_ih_l1"] == pytest.approx(0.33)
    # every product but that of the weights' gradients, which momentum makes dense, by the densities; untied embedding
    recurrent, decoder = (27e6 * 0.33 + 9e6 * found["lstm.weight_hh_l0"]), 15e6 * 0.33
    assert run_flops(run, found).train_ratio == pytest.approx((2 * (recurrent + decoder) + 51e6 + 15e6) / 168e6)


def test_densities_over_time_without_updates_are_those_of_the_configuration() -> None:
    run = composed("sparsifier=static_er")
    assert run_flops(run, mean_densities(run, [{"step": 7}])) == run_flops(run)
    assert set(mean_densities(composed("sparsifier=gmp"), []).values()) == {1.0}


def test_densities_over_time_of_data_whose_size_is_counted() -> None:
    run = composed("dataset=pydoc sparsifier=static_uniform")
    assert mean_densities(run, [])["lstm.weight_ih_l0"] == pytest.approx(0.33)
