"""Topological distance: golden values by hand, matching, alignment across layers, chance, and a real run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from results.figures.distance import chance, distances, expected, row_distances
from results.figures.matching import partners, standardised
from results.figures.snapshots import Connections, Snapshot, epochs, read
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.training.session import train

TOKENS, UNITS = 200, 12


def mask(*gates: list[str]) -> NDArray[np.bool_]:
    """[gates, units, inputs] from rows like '10'."""
    return np.array([[[entry == "1" for entry in row] for row in rows] for rows in gates])


def one_layer(connections: NDArray[np.bool_], states: NDArray[np.float32], source: int | None = None) -> Snapshot:
    return Snapshot((Connections("hh1", 0, source, connections),), (states,))


def random_states(seed: int, units: int = UNITS) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((TOKENS, units)).astype(np.float32)


def two_layers(seed: int, density: float = 0.4, gates: int = 4) -> Snapshot:
    """A stacked LSTM of two layers with random masks and states."""
    draw = np.random.default_rng(seed)
    places = (("ih1", 0, None), ("hh1", 0, 0), ("ih2", 1, 0), ("hh2", 1, 1))
    connections = tuple(Connections(*place, draw.random((gates, UNITS, UNITS)) < density) for place in places)
    return Snapshot(connections, (random_states(seed + 1), random_states(seed + 2)))


def permuted(network: Snapshot, orders: list[NDArray[np.intp]]) -> Snapshot:
    """The same network with the units of every layer in another order, wherever they appear."""
    connections = []
    for weight in network.connections:
        rows = weight.mask[:, orders[weight.layer]]
        moved = rows if weight.source is None else rows[:, :, orders[weight.source]]
        connections.append(replace(weight, mask=moved))
    states = tuple(each[:, order] for each, order in zip(network.states, orders, strict=True))
    return Snapshot(tuple(connections), states)


def values(first: Snapshot, second: Snapshot, matching: str = "semi") -> dict[str, float]:
    return {each.weight: each.value for each in distances(first, second, matching)}  # type: ignore[arg-type]


MOVING = np.array([[0, 0], [1, 0], [0, 1], [1, 3]], np.float32)  # two units that do different things


@pytest.mark.parametrize(
    ("second", "distance"),
    [
        (mask(["10", "01"]), 0.0),
        (mask(["01", "10"]), 1.0),
        (mask(["11", "01"]), 0.25),  # the first row has one of two, the second is the same
        (mask(["00", "11"]), 0.75),  # all of one row, one of two
        (mask(["00", "00"]), 1.0),
    ],
)
def test_by_hand(second: NDArray[np.bool_], distance: float) -> None:
    first = one_layer(mask(["10", "01"]), MOVING)
    assert values(first, one_layer(second, MOVING)) == {"hh1": distance}
    assert values(one_layer(second, MOVING), first) == {"hh1": distance}


def test_empty_rows_are_equal() -> None:
    empty, half = mask(["00", "00"]), mask(["00", "11"])
    assert row_distances(empty, half).tolist() == [[0.0, 1.0]]
    assert values(one_layer(empty, MOVING), one_layer(empty, MOVING)) == {"hh1": 0.0}


def test_gates_are_aligned_each_for_itself() -> None:
    first = one_layer(mask(["10", "11"], ["00", "01"]), MOVING)
    swapped = one_layer(mask(["11", "10"], ["01", "00"]), MOVING[:, ::-1])  # units swapped, inputs not
    assert values(first, swapped) == {"hh1": 0.0}
    assert row_distances(first.connections[0].mask, swapped.connections[0].mask).mean() > 0


@pytest.mark.parametrize("matching", ["semi", "assignment"])
def test_order_of_the_units_does_not_matter(matching: str) -> None:
    network, draw = two_layers(1), np.random.default_rng(5)
    other = permuted(network, [draw.permutation(UNITS), draw.permutation(UNITS)])
    assert values(network, other, matching) == dict.fromkeys(["ih1", "hh1", "ih2", "hh2"], 0.0)
    for ours, theirs in zip(network.connections, other.connections, strict=True):
        assert row_distances(ours.mask, theirs.mask).mean() > 0.2


def test_what_a_permuted_layer_feeds_is_aligned_by_it() -> None:
    network, order = two_layers(1), np.random.default_rng(5).permutation(UNITS)
    unmoved = np.arange(UNITS)
    first_moved = permuted(network, [order, unmoved])
    assert set(values(network, first_moved).values()) == {0.0}
    stuck = tuple(
        replace(weight, mask=network.connections[2].mask) if weight.name == "ih2" else weight
        for weight in first_moved.connections
    )
    found = values(network, Snapshot(stuck, first_moved.states))
    assert found.pop("ih2") > 0.2
    assert set(found.values()) == {0.0}


def test_semi_matching_may_choose_a_unit_twice_and_assignment_not() -> None:
    base = random_states(1, 3)
    first = np.stack([base[:, 0], base[:, 0] + 0.1 * base[:, 1], base[:, 2]], axis=1)
    second = np.stack([base[:, 2], base[:, 0], base[:, 1]], axis=1)
    ours, theirs = standardised(first), standardised(second)
    assert partners(ours, theirs, "semi").tolist() == [1, 1, 0]
    assert partners(ours, theirs, "assignment").tolist() == [1, 2, 0]


def test_correlation_has_a_sign() -> None:
    wave = random_states(1, 1)
    first = standardised(np.hstack([wave, random_states(2, 1)]))
    second = standardised(np.hstack([-wave, wave + random_states(3, 1)]))
    assert partners(first, second)[0] == 1


def test_scale_and_offset_of_a_unit_do_not_matter() -> None:
    states = random_states(1)
    assert np.allclose(standardised(states), standardised(0.3 * states + 2), atol=1e-5)
    assert np.allclose(np.square(standardised(states)).sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("matching", ["semi", "assignment"])
def test_units_that_never_move_or_do_the_same_are_their_own_partners(matching: str) -> None:
    states = random_states(1)
    states[:, 3], states[:, 7] = 0.1, -1.0
    states[:, 9] = states[:, 2]
    normal = standardised(states)
    assert not normal[:, [3, 7]].any()
    assert partners(normal, normal, matching).tolist() == list(range(UNITS))  # type: ignore[arg-type]


def test_symmetry() -> None:
    first, second = two_layers(1), two_layers(7)
    one, other = values(first, second, "assignment"), values(second, first, "assignment")
    assert one == {name: pytest.approx(value) for name, value in other.items()}
    for ours, theirs in zip(distances(first, second), distances(second, first), strict=True):
        assert ours.chance == theirs.chance
    assert values(first, second) != values(second, first)  # several units with one partner


@pytest.mark.parametrize(("density", "level"), [(0.33, 0.802), (0.472, 0.691), (0.20, 0.889)])
def test_chance_of_equal_densities(density: float, level: float) -> None:
    assert expected(density, density) == pytest.approx(level, abs=5e-4)
    assert expected(density, density) == pytest.approx(1 - density / (2 - density))
    draw = np.random.default_rng(3)
    first, second = (draw.random((4, 100, 400)) < density for _ in range(2))
    assert row_distances(first, second).mean() == pytest.approx(level, abs=0.003)
    assert chance(first, second) == pytest.approx(level, abs=0.003)


def test_chance_of_other_densities() -> None:
    draw = np.random.default_rng(3)
    first, second = draw.random((1, 300, 400)) < 0.5, draw.random((1, 300, 400)) < 0.1
    assert expected(0.5, 0.1) == pytest.approx(1 - 0.05 / 0.55)
    assert row_distances(first, second).mean() == pytest.approx(expected(0.5, 0.1), abs=0.003)
    assert (expected(0, 0), expected(0, 0.3), expected(1, 1)) == (0, 1, 0)


def test_chance_goes_by_the_densities_of_the_gates() -> None:
    density = np.array([0.1, 0.3, 0.6, 0.8])[:, None, None]
    draw = np.random.default_rng(3)
    first, second = (draw.random((4, 100, 400)) < density for _ in range(2))
    assert chance(first, second) == pytest.approx(row_distances(first, second).mean(), abs=0.003)
    assert chance(first, second) < expected(0.45, 0.45) + 0.01
    assert abs(chance(first, second) - expected(0.45, 0.45)) > 0.02


def test_networks_of_other_sizes_are_refused() -> None:
    first = one_layer(mask(["10", "01"]), MOVING)
    with pytest.raises(ConfigError, match=r"hh1 has shape \(1, 2, 2\) in one and \(2, 2, 2\) in the other"):
        distances(first, one_layer(mask(["10", "01"], ["10", "01"]), MOVING))
    with pytest.raises(ConfigError, match=r"same tokens: hidden/0 has shape \(4, 2\)"):
        distances(first, one_layer(mask(["10", "01"]), np.vstack([MOVING, MOVING])))


def trained(*overrides: str) -> Path:
    """The snapshots of a run of seconds."""
    own = ["dataset=pydoc", "budget=smoke", "snapshots=true", "logger=files", "threads=1", "device=cpu", *overrides]
    run = compose_run(own)
    train(run, own)
    return RunFolder(runs_root() / run_id(run)).snapshots


@pytest.mark.parametrize(
    ("model", "weights", "gates"),
    [
        ("stacked_lstm", ["ih1", "hh1", "ih2", "hh2"], 4),
        ("awd_lstm_mos", ["ih1", "hh1", "ih2", "hh2", "ih3", "hh3"], 4),
        ("rhn", ["ih1", "hh1", "hh2", "hh3"], 2),
    ],
)
def test_a_real_run(model: str, weights: list[str], gates: int) -> None:
    folder = trained(f"model={model}", "sparsifier=selfish", "training.epochs=3")
    assert epochs(folder) == [1, 2, 3]
    first, *later = (read(folder, epoch) for epoch in epochs(folder))
    assert [weight.name for weight in first.connections] == weights
    assert {len(weight.mask) for weight in first.connections} == {gates}
    for matching in ("semi", "assignment"):
        assert values(first, first, matching) == dict.fromkeys(weights, 0.0)
    for network in later:
        assert all(0 < value <= 1 for value in values(first, network).values())


def test_masks_are_those_of_the_run() -> None:
    folder = trained("model=stacked_lstm", "sparsifier=static_uniform", "training.epochs=2", "sparsifier.sparsity=0.67")
    first, second = read(folder, 1), read(folder, 2)
    for ours, theirs in zip(first.connections, second.connections, strict=True):
        assert ours.mask.mean() == pytest.approx(0.33, abs=0.1)
        assert np.array_equal(ours.mask, theirs.mask)
    assert [states.shape[1] for states in first.states] == [16, 16]


@pytest.mark.parametrize(
    "choice", [["model=on_lstm", "sparsifier=selfish"], ["model=stacked_lstm", "sparsifier=dense"]]
)
def test_what_has_no_exchangeable_units_is_refused(choice: list[str]) -> None:
    folder = trained(*choice, "training.epochs=1")
    with pytest.raises(ConfigError, match="holds no masks of an LSTM or RHN"):
        read(folder, 1)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "epoch0001.safetensors"
    with pytest.raises(ConfigError, match=r"epoch0001\.safetensors cannot be read as a snapshot"):
        read(tmp_path, 1)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ConfigError, match="cannot be read as a snapshot"):
        read(tmp_path, 1)
    tensors = {"mask/lstm.weight_hh_l0": np.zeros(4, np.uint8), "hidden/0": np.zeros((5, 4), np.float16)}
    save_file(tensors, path, {"shape/lstm.weight_hh_l0": "16x2"})
    with pytest.raises(ConfigError, match="hh1 has 2 columns for 4 units"):
        read(tmp_path, 1)
    twins = {f"{side}.weight_ih_l0": "16x3" for side in ("encoder", "decoder")}
    tensors = {f"mask/{name}": np.zeros(6, np.uint8) for name in twins} | {"hidden/0": np.zeros((5, 4), np.float16)}
    save_file(tensors, path, {f"shape/{name}": shape for name, shape in twins.items()})
    with pytest.raises(ConfigError, match=r"more than one of .* has the same place"):
        read(tmp_path, 1)
    save_file({"hidden/0": np.zeros((5, 4), np.float16)}, path)
    with pytest.raises(ConfigError, match="holds no masks of an LSTM or RHN"):
        read(tmp_path, 1)


@pytest.mark.parametrize("shape", ["1000000000x1000000000", "16x", "16", "16x4x1", "-16x-4", "0x4", "16x3", "ax4", ""])
def test_a_shape_that_does_not_fit_is_refused(shape: str, tmp_path: Path) -> None:
    tensors = {"mask/lstm.weight_hh_l0": np.zeros(8, np.uint8), "hidden/0": np.zeros((5, 4), np.float16)}
    save_file(tensors, tmp_path / "epoch0001.safetensors", {"shape/lstm.weight_hh_l0": shape})
    with pytest.raises(ConfigError, match=r"^[^\n]*epoch0001\.safetensors cannot be read as a snapshot: [^\n]+\.$"):
        read(tmp_path, 1)


def test_a_missing_mask_or_odd_states_are_refused(tmp_path: Path) -> None:
    bits, states = np.zeros(8, np.uint8), np.zeros((5, 4), np.float16)
    name = "mask/lstm.weight_hh_l0"
    for tensors in (
        {"hidden/0": states},
        {name: bits},
        {name: bits, "hidden/1": states},
        {name: bits, "hidden/0": states[0]},
        {name: bits.astype(np.int64), "hidden/0": states},
        {name: bits.reshape(2, 4), "hidden/0": states},
    ):
        save_file(tensors, tmp_path / "epoch0001.safetensors", {"shape/lstm.weight_hh_l0": "16x4"})
        with pytest.raises(ConfigError, match="cannot be read as a snapshot"):
            read(tmp_path, 1)


def test_a_changed_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "epoch0001.safetensors"
    tensors = {"mask/lstm.weight_hh_l0": torch.zeros(8, dtype=torch.uint8), "hidden/0": torch.zeros(5, 4)}
    save_tensors(path, tensors, {"shape/lstm.weight_hh_l0": "16x4"})
    assert not read(tmp_path, 1).connections[0].mask.any()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ConfigError, match="its checksum is not that of what was written"):
        read(tmp_path, 1)


def test_files_of_other_names_are_no_epochs(tmp_path: Path) -> None:
    assert epochs(tmp_path / "snapshots") == []
    for name in ("epoch0012.safetensors", "epochX.safetensors", "epoch0001.safetensors.tmp", "epoch.safetensors"):
        (tmp_path / name).touch()
    assert epochs(tmp_path) == [12]
