"""Configurations: every YAML composes, every error is one sentence, identities are stable."""

import pytest

from sparse_rnn.config.compose import compose_run, expand_shorthands
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.conf import OPTIONAL_GROUPS, config_dir
from sparse_rnn.core.conf import options as files
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.training.multirun import points

TEXT = ["dataset.train=a", "dataset.valid=b", "dataset.test=c"]
TABLES = ["dataset.train=a", "dataset.test=c"]


NOT_RUN_OPTIONS = ("table", "figure", "finding", "cluster", "hydra")


def options():
    """Group and option of every file that belongs to a run: `size`, `smoke/rhn`."""
    for path in sorted(config_dir().glob("*/**/*.yaml")):
        group, _, name = path.relative_to(config_dir()).with_suffix("").as_posix().partition("/")
        if group not in NOT_RUN_OPTIONS:
            yield group, name


def overrides_for(group: str, name: str) -> list[str]:
    """What else an option needs to make sense."""
    if group == "size":
        budget, model = name.split("/")
        return [f"budget={budget}", *overrides_for("model", model)]
    if group == "recipe":
        if name == "none":
            return [
                "recipe=none",
                "optimizer.lr=1",
                "training.epochs=1",
                "sparsifier.sparsity=0.5",
                "sparsifier.removal_rate=0.1",
            ]
        for model in choices("model"):
            if name.removeprefix(f"{model}_") in choices("optimizer"):
                return [f"model={model}", f"optimizer={name.removeprefix(f'{model}_')}"]
    if group == "excerpt":
        budget, dataset = name.split("/")
        return [f"budget={budget}", *overrides_for("dataset", dataset)]
    if group == "tuning":
        model, optimizer, dataset = name.split("/")
        return [f"model={model}", f"optimizer={optimizer}", f"dataset={dataset}"]
    if group == "pairing":
        method, model = name.split("/")
        return [f"sparsifier={method}", f"model={model}"]
    if group == "dataset" and lookup("dataset", name).task == "text_classification":
        return [f"dataset={name}", "model=lstm_classifier", *(TABLES if name == "labelled_text" else [])]
    if group == "optimizer" and not (config_dir() / "recipe" / f"stacked_lstm_{name}.yaml").exists():
        return [f"optimizer={name}", *overrides_for("recipe", "none")]
    if group == "model":
        return [f"model={name}", *with_a_recipe(name)]
    if group == "growth" and name == "reserve":
        return ["growth=reserve", "sparsifier=top_kast"]
    if group == "growth" and name == "none":
        return ["growth=none", "sparsifier=static_uniform"]
    return [f"{group}={name}", *(TEXT if name == "text" else [])]


def with_a_recipe(model: str) -> list[str]:
    """An optimizer for a model that has no recipe for the default one, as one that somebody has added may not."""
    known = [optimizer for optimizer in choices("optimizer") if f"{model}_{optimizer}" in files("recipe")]
    return [] if "snt_asgd" in known else [f"optimizer={known[0]}"]


@pytest.mark.parametrize(("group", "name"), list(options()))
def test_every_option_composes(group, name):
    run = compose_run(overrides_for(group, name))
    if group not in OPTIONAL_GROUPS:
        assert as_dict(run)[group]["name"] == name


def test_what_a_method_needs_for_a_model_takes_effect():
    windows = {}
    for model in ("stacked_lstm", "rhn"):
        method = compose_run([f"model={model}", "sparsifier=gmp"]).sparsifier
        windows[model] = (method.prune_start, method.prune_end)
    assert windows == {"stacked_lstm": (0.3, 0.9), "rhn": (0.1, 0.8)}
    assert compose_run(["model=rhn", "sparsifier=gmp", "sparsifier.prune_end=0.5"]).sparsifier.prune_end == 0.5


@pytest.mark.parametrize(
    ("option", "earlier", "others"),
    [
        ("size=reduced/rhn", "size=reduced_rhn", ["model=rhn"]),
        ("size=demo/awd_lstm_mos", "size=demo_awd_lstm_mos", ["model=awd_lstm_mos", "budget=smoke"]),
        (
            "tuning=lstm_classifier/adam/imdb",
            "tuning=lstm_classifier_adam_imdb",
            ["model=lstm_classifier", "dataset=ag_news"],
        ),
        ("pairing=gmp/rhn", "pairing=gmp_rhn", ["sparsifier=gmp"]),
    ],
)
def test_options_of_optional_groups_may_be_written_with_underscores(option, earlier, others):
    run = compose_run([option, *others])
    assert run == compose_run([earlier, *others])
    assert run != compose_run(others), "the option takes effect"


def test_options_of_optional_groups_may_be_several():
    assert expand_shorthands(["-m", "size=smoke_rhn,demo/rhn"]) == ["-m", "size=smoke/rhn,demo/rhn"]


def test_a_recipe_for_another_method_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"^recipe=iss_rhn does not go with .*: key 'group_lasso'.*\.$"):
        compose_run(["recipe=iss_rhn", "sparsifier=dense"])


def test_size_options_take_effect():
    assert compose_run(["budget=smoke"]).model.hidden == 16
    assert compose_run(["budget=paper"]).model.hidden == 1500


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=rnh"], ["model=rnh", "rhn"]),
        (["model.hiden=3"], ["model.hiden", "hidden"]),
        (["modle=rhn"], ["modle", "model"]),
        (["+model.hiden=3"], ["model.hiden", "hidden"]),
        (["+sed=3"], ["sed", "seed"]),
        (["model.hidden=many"], ["model.hidden", "many", "Integer"]),
        (["model.hidden=0"], ["model.hidden=0", "at least 1"]),
        (["model.dropout=1.0"], ["model.dropout=1.0", "[0, 1)"]),
        (["sparsifier=selfihs"], ["selfihs", "selfish"]),
        (["sparsifier.sparsity=1"], ["sparsifier.sparsity", "[0, 1)"]),
        (["sparsifier.sparsity=-0.1"], ["sparsifier.sparsity", "[0, 1)"]),
        (["sparsifier.removal=magnitud"], ["sparsifier.removal=magnitud", "magnitude"]),
        (["sparsifier.redistribution=gate"], ["sparsifier.redistribution=gate", "gates"]),
        (["sparsifier.initial=erk"], ["sparsifier.initial=erk", "er"]),
        (["sparsifier.schedule=cosin"], ["sparsifier.schedule=cosin", "cosine"]),
        (["sparsifier.scope=layer"], ["sparsifier.scope=layer", "tensor"]),
        (["sparsifier.backend=csr"], ["sparsifier.backend=csr", "auto, masked, sparse"]),
        (["sparsifier.update_interval=0"], ["sparsifier.update_interval=0", "epoch"]),
        (["sparsifier.update_interval=often"], ["sparsifier.update_interval=often", "steps"]),
        (["sparsifier.update_until=0"], ["sparsifier.update_until"]),
        (["sparsifier.prune_start=0.9", "sparsifier.prune_end=0.5"], ["prune_start", "prune_end"]),
        (["sparsifier=dense", "growth=random"], ["sparsifier=dense", "growth=random"]),
        (["sparsifier=static_er", "growth=gradient"], ["sparsifier=static_er", "growth=gradient"]),
        (["sparsifier=selfish", "growth=none"], ["sparsifier=selfish", "growth"]),
        (["sparsifier.initial=dense"], ["sparsifier=selfish", "initial=dense"]),
        (["sparsifier=dense", "sparsifier.sparsity=0.5"], ["sparsifier=dense", "sparsifier.sparsity"]),
        (["sparsifier.scope=gate", "sparsifier.redistribution=gate_magnitude"], ["gate_magnitude", "scope=gate"]),
        (["growth=momentum", "growth.beta=1"], ["growth.beta"]),
        (["protocol=offical_code"], ["official_code"]),
        (["protocol.masking=both"], ["protocol.masking=both"]),
        (["optimizer.lr=0"], ["optimizer.lr=0"]),
        (["optimizer=adam", "optimizer.plateau_factor=2"], ["optimizer.plateau_factor"]),
        (["optimizer.nonmono=-1"], ["optimizer.nonmono"]),
        (["training.clip=0"], ["training.clip"]),
        (["training.epochs=0"], ["training.epochs=0"]),
        (["checkpoint.keep=all"], ["checkpoint.keep=all", "best"]),
        (["checkpoint.every_minutes=0"], ["checkpoint.every_minutes"]),
        (["snapshots.tokens=1"], ["snapshots.tokens=1"]),
        (["logger.mode=on"], ["logger.mode=on"]),
        (["device=gpu"], ["device=gpu", "cuda"]),
        (["threads=0"], ["threads=0"]),
        (["seed=-1"], ["seed"]),
        (["recipe=none"], ["not set"]),
        (["recipe=none", "optimizer.lr=1", "training.epochs=1"], ["sparsifier.sparsity", "not set"]),
        (["recipe=nothing"], ["recipe=nothing", "none"]),
        (["optimizer=sgd"], ["recipe=stacked_lstm_sgd", "recipe=none"]),
        (["model=lstm_classifier", "dataset=ptb", "budget=smoke"], ["lstm_classifier", "dataset=ptb"]),
        (["model=lstm_classifier", "training.sub_batch=8"], ["training.sub_batch", "text_classification"]),
        (["model=lstm_classifier", "training.variable_bptt=true"], ["training.variable_bptt"]),
        (["model=lstm_classifier", "training.max_bptt=40"], ["training.max_bptt"]),
        (["sparsifier=st_rnn", "sparsifier.epsilon=9", "sparsifier.sparsity=0.5"], ["epsilon", "sparsifier.sparsity"]),
        (["recipe=rigl_original", "model=rhn"], ["recipe=rigl_original", "model=stacked_lstm", "model=rhn"]),
        (["recipe=st_rnn_lstm", "optimizer=adam"], ["recipe=st_rnn_lstm", "optimizer=momentum_sgd", "optimizer=adam"]),
        (["size=huge"], ["size=huge", "demo/awd_lstm_mos"]),
        (["size=smoke_rh"], ["size=smoke_rh", "smoke/rhn"]),
        (["tuning=lstm_classifier_adam_imbd"], ["imbd", "lstm_classifier/adam/imdb"]),
        (["size=smoke/rhn"], ["size=smoke/rhn", "model=stacked_lstm"]),
        (["dataset=text"], ["dataset.train=FILE"]),
        (["sparsifier.sparsity=0.5,0.6"], ["sparsifier.sparsity"]),
        (["seed"], ["seed", "key=value"]),
        (["model=[rhn]"], ["model"]),
        (["seed=${nowhere}"], ["nowhere"]),
    ],
)
def test_errors_are_one_sentence_that_names_the_key(overrides, words):
    with pytest.raises(ConfigError) as caught:
        compose_run(overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence


def test_a_method_chooses_its_growth_and_the_command_line_wins():
    assert compose_run(["sparsifier=rigl"]).growth.name == "gradient"
    assert compose_run(["sparsifier=rigl", "growth=random"]).growth.name == "random"
    assert compose_run(["growth=random", "sparsifier=rigl"]).growth.name == "random"
    assert compose_run(["sparsifier=snfs"]).growth.name == "momentum"


def test_paper_recipes():
    """Selfish-RNN Table 4."""
    lstm = compose_run(["model=stacked_lstm"])
    assert (lstm.optimizer.lr, lstm.training.epochs, lstm.training.clip) == (40.0, 100, 0.25)
    assert (lstm.sparsifier.sparsity, lstm.sparsifier.removal_rate, lstm.model.dropout) == (0.67, 0.7, 0.65)
    rhn = compose_run(["model=rhn"])
    assert (rhn.optimizer.lr, rhn.training.epochs, rhn.sparsifier.sparsity) == (15.0, 500, 0.528)
    dropouts = (rhn.model.dropout_word, rhn.model.dropout_input, rhn.model.dropout_hidden, rhn.model.dropout_output)
    assert dropouts == (0.2, 0.65, 0.25, 0.65)
    adam = compose_run(["optimizer=adam"]).optimizer
    assert (adam.lr, adam.beta1, adam.beta2, adam.epsilon) == (0.001, 0.0, 0.999, 1e-9)
    assert (adam.plateau_factor, adam.plateau_patience, adam.weight_decay) == (0.5, 2, 1.2e-6)
    momentum = compose_run(["optimizer=momentum_sgd"]).optimizer
    assert (momentum.lr, momentum.plateau_patience) == (2.0, 1)
    assert momentum.plateau_factor == pytest.approx(1 / 1.33)


def test_default_scopes_by_protocol():
    """set and st_rnn keep gates apart under the paper's protocol; the official code sorts whole tensors."""
    scopes = {m: compose_run([f"sparsifier={m}"]).sparsifier.scope for m in ("set", "st_rnn", "rigl", "selfish", "dsr")}
    assert scopes == {"set": "gate", "st_rnn": "gate", "rigl": "tensor", "selfish": "tensor", "dsr": "tensor"}
    official = ["protocol=official_code"]
    assert compose_run([*official, "sparsifier=set"]).sparsifier.scope == "tensor"
    assert compose_run([*official, "sparsifier=selfish"]).sparsifier.final_rate == 0.005


def test_identity_counts_what_is_computed_only():
    plain = run_id(compose_run([]))
    assert plain.startswith("stacked_lstm-ptb-selfish-s1-")
    same = [
        "logger=[tensorboard,mlflow]",
        "logger.uri=sqlite:///elsewhere.db",
        "device=cpu",
        "threads=1",
        "checkpoint.keep=last",
        "sparsifier.backend=sparse",
    ]
    assert run_id(compose_run(same)) == plain
    assert run_id(compose_run(["training.bptt=35", "seed=1", "init_seed=1"])) == plain
    others = [["seed=2"], ["init_seed=2"], ["sparsifier.scope=gate"], ["snapshots=true"], ["budget=reduced"]]
    ids = {run_id(compose_run(o)) for o in others}
    assert len(ids | {plain}) == len(others) + 1


def test_several_loggers_are_on_at_once_in_any_order():
    for names in ("wandb,tensorboard", "mlflow,files,tensorboard", "files", ""):
        one, other = compose_run([f"logger=[{names}]"]), Composer().compose([f"logger=[{names}]", "seed=1"])
        assert one.logger == other.logger
        on = {name for name in ("wandb", "tensorboard", "mlflow") if getattr(one.logger, name)}
        assert on == set(names.split(",")) - {"files", ""}
    assert compose_run([]).logger == compose_run(["logger=wandb"]).logger
    assert points(["logger=[wandb,tensorboard]", "seed=1,2"]) == [
        ["logger=[wandb,tensorboard]", f"seed={seed}"] for seed in (1, 2)
    ]


def test_a_recorded_configuration_reads_back():
    for overrides in ([], ["model=rhn", "sparsifier=snfs", "optimizer=adam"], ["dataset=text", *TEXT]):
        run = compose_run(overrides)
        assert run_from_dict(as_dict(run)) == run
    with pytest.raises(ConfigError, match="another version"):
        run_from_dict({**as_dict(compose_run([])), "training": {"epoch": 3}})


def test_snapshots_shorthand():
    assert compose_run(["snapshots=true"]).snapshots.enabled
    assert compose_run(["snapshots=true", "snapshots.tokens=50"]).snapshots.tokens == 50
