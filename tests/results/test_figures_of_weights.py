"""Figures of gates and of large weights, and the names of weights in them."""

import json
import random

import pytest
from constructed_runs import INPUT, RECURRENT, finished, gathered_for, own_figure

from results.figures.by_name import draw
from results.figures.gate_sparsity import draw_gates_over_time, final_gates, gate_means, gates_over_time
from results.figures.large_weights import large_weights
from results.figures.weight_names import input_weights, short_names
from results.sources.logs import LoggedRun
from sparse_rnn.config.compose import compose_run
from sparse_rnn.tables.declaration import Block, Row, load
from sparse_rnn.tables.expansion import expand
from sparse_rnn.training.session import train


def test_large_weights_are_counted_by_epoch_for_input_weights_only(catalogue):
    gathered = gathered_for(load("figure3"), catalogue, lambda each: finished(each, **{"averaging/trigger_epoch": 2}))
    data = large_weights(gathered)
    own = data[data["row"] == "NT-ASGD"]
    assert own["weight"].tolist() == [INPUT] * 3
    assert own["epoch"].tolist() == [1, 2, 3]
    assert own["evaluated"].tolist() == [90, 180, 270]
    assert own["raw"].tolist() == [100, 200, 300]
    assert own["trigger"].tolist() == [2, 2, 2]
    assert "Averaging begins after epoch 2 (SNT-ASGD), 2 (NT-ASGD)." in draw("figure3", gathered).notes


def test_gates_at_the_end_and_over_time(catalogue):
    gathered = gathered_for(load("figure10"), catalogue, seeds=(1, 2))
    run = next(iter(gathered.logs.runs.values()))
    gates = [(INPUT, "forget", 0.7), (INPUT, "cell", 0.5), (RECURRENT, "forget", 0.6)]
    assert list(final_gates(run).itertuples(index=False, name=None)) == gates
    over_time = gates_over_time(run)
    assert over_time["epoch"].tolist() == [1, 2, 3]
    assert over_time["sparsity"].tolist() == pytest.approx([0.61, 0.62, 0.63])
    means = gate_means(gathered)
    rhn = means[means["panel"] == "RHN"]
    assert rhn["weight"].tolist() == [INPUT, INPUT, RECURRENT, "model"]
    assert rhn["sparsity"].tolist() == pytest.approx([0.7, 0.5, 0.6, 0.528])
    assert rhn["finished"].tolist() == [2] * 4


def test_the_order_of_keys_in_the_log_does_not_matter(catalogue):
    (planned,) = expand(own_figure(Block("One", (Row("Selfish", ("model=rhn",)),))), catalogue.facts)
    run = finished(planned)
    keys = list(run.final)
    random.Random(3).shuffle(keys)
    shuffled = {key: run.final[key] for key in keys}
    other = LoggedRun(run.run_id, run.config, {}, "finished", shuffled, "", lambda: [shuffled])
    assert list(shuffled) != list(run.final)
    assert final_gates(other).equals(final_gates(run))


def test_weights_are_called_as_in_the_papers():
    lstm = ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"]
    assert list(short_names(reversed(lstm)).items()) == list(zip(lstm, ["ih1", "hh1", "ih2", "hh2"], strict=True))
    layers = [f"layers.{layer}.input.weight" for layer in range(11)]
    assert list(short_names(sorted(layers)).items())[-1] == ("layers.10.input.weight", "ih11")
    rhn = ["highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"]
    assert list(short_names(rhn).values()) == ["W", "R1", "R2"]
    assert short_names(["cell.kernel"]) == {"cell.kernel": "cell.kernel"}
    assert input_weights([*lstm, *rhn, "embedding.weight"]) == [rhn[0], lstm[0], lstm[2]]


@pytest.mark.parametrize("model", ["stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos"])
def test_gates_of_a_trained_run(model, tmp_path):
    overrides = [f"model={model}", "dataset=pydoc", "budget=smoke", "logger=files"]
    train(compose_run(overrides), overrides)
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = LoggedRun(folder.name, {}, {}, "finished", rows[-1], str(folder), lambda: rows)
    gates, over_time = final_gates(logged), gates_over_time(logged)
    assert set(over_time["epoch"]) == {1, 2, 3, 4}
    assert len(over_time) == 4 * len(gates)
    kept = over_time[over_time["epoch"] == rows[-1]["best/epoch"]]
    assert kept[["weight", "gate"]].values.tolist() == gates[["weight", "gate"]].values.tolist()
    short = short_names(gates["weight"].unique())
    assert not set(short) & set(short.values())
    counted = {key.rpartition("/")[2] for key in rows[-2] if key.startswith("large_weights/")}
    assert set(input_weights(gates["weight"].unique())) <= counted
    drawing = draw_gates_over_time(logged)
    assert sum(axes.get_visible() for axes in drawing.figure.axes) == len(short)
