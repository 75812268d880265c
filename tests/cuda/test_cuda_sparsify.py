"""`sparsify` on a GPU: what a CPU cannot show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_rnn import Diverged, sparsify

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SETTINGS = {"sparsity": 0.5, "steps": 200, "update_interval": 3}


def made(device: str, **flags: bool):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).to(device)
    return model, torch.optim.Adam(model.parameters(), 0.01, **flags)


def step(model, optimizer, sparsifier, scaler, *, broken: bool = False) -> None:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16):
        loss = model(torch.randn(8, 16, device="cuda")).square().mean()
    scaler.scale(loss).backward()
    if broken:
        model[0].bias.grad[0] = float("inf")
    scaler.unscale_(optimizer)
    sparsifier.before_step()
    scaler.step(optimizer)
    scaler.update()
    sparsifier.after_step()
    sparsifier.check()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("method", ["selfish", "snfs"])
def test_a_step_that_the_scaler_leaves_out_does_not_count(method, fused):
    model, optimizer = made("cuda", fused=fused)
    scaler = torch.amp.GradScaler("cuda")
    sparsifier = sparsify(model, optimizer, method=method, **SETTINGS)
    for number in range(8):
        step(model, optimizer, sparsifier, scaler, broken=number % 2 == 1)
    assert sparsifier.step == 4


def test_a_module_that_moves_is_noticed():
    model, optimizer = made("cpu")
    sparsifier = sparsify(model, optimizer, **SETTINGS)
    model.cuda()
    for look in (sparsifier.check, sparsifier.before_step):
        with pytest.raises(RuntimeError, match=r"^0\.weight has moved to cuda:0 since sparsify: "):
            look()


def test_a_weight_that_is_not_finite_is_reported_with_its_step():
    model, optimizer = made("cuda")
    sparsifier = sparsify(model, optimizer, **SETTINGS)

    def train(until: int) -> None:
        for number in range(sparsifier.step + 1, until + 1):
            optimizer.zero_grad()
            model(torch.randn(8, 16, device="cuda")).square().mean().backward()
            if number == 7:
                model[0].bias.grad[0] = float("nan")
            sparsifier.before_step()
            optimizer.step()
            sparsifier.after_step()

    train(49)
    with pytest.raises(Diverged, match=r"became nan in step 7: "):
        train(50)


def test_the_example_resumes_in_half_precision(tmp_path):
    def run(*arguments: str) -> str:
        command = [sys.executable, str(EXAMPLES / "mixed_precision.py"), *arguments]
        environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    whole = run("whole")
    assert "step 60 of 60" in whole
    run("parts", "33")
    assert run("parts") == whole
