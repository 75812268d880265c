"""Which gradients rules, clipping and optimizers see, in training on a small language model."""

import math

import pytest
import torch
from storages import ON_KERNELS, gradient_of


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum_sgd"])
def test_snfs_keeps_the_momentum_of_the_dense_gradient(training, optimizer, protocol):
    """m <- .9 m + g over unmasked, unclipped gradients, whatever the optimizer keeps itself (design, section 4)."""
    settings = ["sparsifier.update_interval=3", "sparsifier.removal_rate=0.2"]
    run = training("sparsifier=snfs", f"optimizer={optimizer}", f"protocol={protocol}", *settings)
    plain: dict[str, torch.Tensor] = {}
    for _ in range(8):
        for name, gradient in run.dense_gradients().items():
            plain[name] = gradient + 0.9 * plain.get(name, torch.zeros_like(gradient))
        run.backward()
        run.step()
        kept = run.sparsifier.state_dict()["signals"]["momentum"]
        for weight in run.topology:
            torch.testing.assert_close(kept[weight.name], plain[weight.name])
            assert kept[weight.name][~weight.mask].any()


@pytest.mark.parametrize("optimizer", ["nt_asgd", "snt_asgd"])
def test_under_averaged_sgd_the_gradient_takes_the_momentum_s_place(training, optimizer):
    """Selfish-RNN section 4.1: SNT-ASGD has no momentum."""
    settings = ["sparsifier.update_interval=3", "sparsifier.removal_rate=0.2"]
    run = training("sparsifier=snfs", f"optimizer={optimizer}", *settings)
    assert run.sparsifier.needs == {"gradient"}
    masks = expected_masks(run, steps=3)
    assert all(torch.equal(w.mask, masks[w.name]) for w in run.topology)


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
def test_rigl_grows_by_the_dense_gradient_of_the_update_s_step(training, protocol):
    run = training("sparsifier=rigl", "optimizer=adam", f"protocol={protocol}", "sparsifier.update_interval=4")
    masks = expected_masks(run, steps=4)
    assert all(torch.equal(w.mask, masks[w.name]) for w in run.topology)


def expected_masks(run, steps: int) -> dict[str, torch.Tensor]:
    """Train `steps` steps, the last with an update; the masks to expect, computed plainly, weight by weight."""
    for _ in range(steps - 1):
        run.backward()
        assert run.step() is None
    gradients = {name: gradient.flatten().abs().tolist() for name, gradient in run.dense_gradients().items()}
    old = {w.name: w.mask.flatten().tolist() for w in run.topology}
    run.backward()
    run.move()
    values = {name: value.flatten().abs().tolist() for name, value in run.values.items()}
    assert run.sparsifier.after_step(run.clock) is not None

    first, final = run.run.sparsifier.removal_rate, run.run.protocol.final_rate
    rate = final + (first - final) * (1 + math.cos(math.pi * steps / 12)) / 2
    kept, gained = {}, {}
    for name, mask in old.items():
        smallest_first = sorted((i for i, on in enumerate(mask) if on), key=lambda i: values[name][i])
        gained[name] = round(rate * len(smallest_first))
        kept[name] = set(smallest_first[gained[name] :])
    if run.run.sparsifier.redistribution == "layers_momentum":
        gained = shared(gained, {name: sum(gradients[name][i] for i in on) / len(on) for name, on in kept.items()})
    masks = {}
    for name, mask in old.items():
        largest_first = sorted(set(range(len(mask))) - kept[name], key=lambda i: (-gradients[name][i], i))
        active = kept[name] | set(largest_first[: gained[name]])
        masks[name] = torch.tensor([i in active for i in range(len(mask))]).reshape(run.topology[name].mask.shape)
    return masks


def shared(lost: dict[str, int], shares: dict[str, float]) -> dict[str, int]:
    """All that was lost, by shares and largest remainder; only where everything fits."""
    total = sum(lost.values())
    quotas = {name: total * share / sum(shares.values()) for name, share in shares.items()}
    gained = {name: int(quota) for name, quota in quotas.items()}
    for name in sorted(quotas, key=lambda name: gained[name] - quotas[name])[: total - sum(gained.values())]:
        gained[name] += 1
    return gained


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
def test_values_of_what_was_removed_and_regrown_in_a_language_model(training, protocol):
    """facts 0.5 and C, row 3: it starts from zero in the paper and keeps its value in the official code."""
    run = training("sparsifier=rigl", "optimizer=momentum_sgd", f"protocol={protocol}", "sparsifier.update_interval=4")
    for _ in range(3):
        run.backward()
        run.step()
    old = {w.name: w.mask.clone() for w in run.topology}
    run.backward()
    run.move()
    report = run.sparsifier.after_step(run.clock)
    zeros = {w.name: int((w.values[w.mask & old[w.name]] == 0).sum()) for w in run.topology}
    new = sum(int((w.mask & ~old[w.name]).sum()) for w in run.topology)
    assert new < report.grown, "some of what grew had just been removed"
    assert sum(zeros.values()) == (report.grown - new if protocol == "paper" else 0)
    for weight in run.topology:
        assert not weight.values[weight.mask & ~old[weight.name]].any()


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
def test_what_the_clipping_norm_is_taken_over(training, protocol):
    """facts 0.1: the gradient of active weights in the paper, the dense one in the official code."""
    run = training("sparsifier=selfish", "optimizer=snt_asgd", f"protocol={protocol}")
    dense = run.dense_gradients()
    run.backward()
    run.sparsifier.before_step(run.clock)
    sparse = {weight.name: weight for weight in run.topology}
    tolerance = {"rtol": 1e-5, "atol": 1e-8} if ON_KERNELS else {"rtol": 0.0, "atol": 0.0}
    for name, parameter in run.model.named_parameters():
        found = gradient_of(sparse[name]) if name in sparse else parameter.grad
        expected = dense[name] * sparse[name].mask if protocol == "paper" and name in sparse else dense[name]
        torch.testing.assert_close(found, expected, **tolerance, msg=name)


WITHOUT = ("cht", "chtss", "deep_r", "mest_soft", "selfish")


@pytest.mark.parametrize("method", WITHOUT)
def test_methods_that_promise_no_dense_gradient_never_ask_for_one(training, method, monkeypatch):
    """Neither is the weight's storage told to watch, nor is it asked."""

    def forbidden(*_):
        pytest.fail("a dense gradient was asked for")

    run = training(f"sparsifier={method}", "optimizer=adam", "sparsifier.update_interval=2")
    for weight in run.topology:
        monkeypatch.setattr(weight.storage, "watch", forbidden)
        monkeypatch.setattr(weight.storage, "gradient", forbidden)
    updates = 0
    for _ in range(4):
        run.backward()
        updates += run.step() is not None
    assert updates == 2
