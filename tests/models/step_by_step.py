"""The recurrent layers once more, as their papers write them: loops over steps, heads and states, weight by weight.

Each function takes a layer's parameters by name, its input [T, B, d] and its state, and gives the outputs [T, B, d] and
the state after them. Nothing here calls the code that is tested.
"""

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu, softplus

Parameters = dict[str, Tensor]


def gru(p: Parameters, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Cho et al. 2014, with torch's reset gate."""
    w, r, b, c = (p[f"gru.{name}_l0"].chunk(3) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, outputs = state[0], []
    for row in x:
        reset, update = (torch.sigmoid(row @ w[k].T + b[k] + h @ r[k].T + c[k]) for k in range(2))
        new = torch.tanh(row @ w[2].T + b[2] + reset * (h @ r[2].T + c[2]))
        h = (1 - update) * new + update * h
        outputs.append(h)
    return torch.stack(outputs), h[None]


def _g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def min_gru(p: Parameters, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, algorithm 1 with the g of appendix B."""
    (w_z, w_h), (b_z, b_h), outputs = p["input.weight"].chunk(2), p["input.bias"].chunk(2), []
    for row in x:
        z = torch.sigmoid(row @ w_z.T + b_z)
        h = (1 - z) * h + z * _g(row @ w_h.T + b_h)
        outputs.append(h)
    return torch.stack(outputs), h


def min_lstm(p: Parameters, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, algorithm 3 with the g of appendix B; both gates divided by their sum."""
    (w_f, w_i, w_h), (b_f, b_i, b_h), outputs = p["input.weight"].chunk(3), p["input.bias"].chunk(3), []
    for row in x:
        f, i = torch.sigmoid(row @ w_f.T + b_f), torch.sigmoid(row @ w_i.T + b_i)
        h = f / (f + i) * h + i / (f + i) * _g(row @ w_h.T + b_h)
        outputs.append(h)
    return torch.stack(outputs), h


def _convolved(p: Parameters, rows: list[Tensor]) -> Tensor:
    """What comes out of the last of four steps."""
    weights = p["convolution.weight"].chunk(4)
    return p["convolution.bias"] + sum(w * row for w, row in zip(weights, rows[-4:], strict=True))


def rg_lru(p: Parameters, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """De et al. 2024, Eq. 1 to 4 inside the recurrent block."""
    (w_s, w_g), (b_s, b_g) = p["input.weight"].chunk(2), p["input.bias"].chunk(2)
    (w_a, w_x), (b_a, b_x) = p["control.weight"].chunk(2), p["control.bias"].chunk(2)
    h, read, outputs = state[0], list(state[1]), []
    for row in x:
        read.append(row @ w_s.T + b_s)
        v = _convolved(p, read)
        r, i = torch.sigmoid(v @ w_a.T + b_a), torch.sigmoid(v @ w_x.T + b_x)
        a = torch.sigmoid(p["decay"]) ** (8 * r)
        h = a * h + torch.sqrt(1 - a**2) * (i * v)
        outputs.append((gelu(row @ w_g.T + b_g) * h) @ p["output.weight"].T + p["output.bias"])
    return torch.stack(outputs), (h, torch.stack(read[-3:]))


def slstm(p: Parameters, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Beck et al. 2024, Eq. 8 to 14 without stabilising, head by head; the stabiliser follows by Eq. 15."""
    heads = len(state[0])
    h, c, n, m = ([part[k] for k in range(heads)] for part in state)
    # A stabilised state stands for exp(m) times itself.
    c, n = ([v * torch.exp(s) for v, s in zip(values, m, strict=True)] for values in (c, n))
    w, b = p["input.weight"].chunk(4), p["input.bias"].chunk(4)
    outputs = []
    for row in x:
        for k in range(heads):
            r, own = p[f"recurrent.{k}"].chunk(4), slice(k * len(h[k][0]), (k + 1) * len(h[k][0]))
            i, f, z, o = (row @ w[g][own].T + b[g][own] + h[k] @ r[g].T for g in range(4))
            m[k] = torch.maximum(torch.log(torch.sigmoid(f)) + m[k], i)
            c[k] = torch.sigmoid(f) * c[k] + torch.exp(i) * torch.tanh(z)
            n[k] = torch.sigmoid(f) * n[k] + torch.exp(i)
            h[k] = torch.sigmoid(o) * c[k] / n[k]
        normalised = [(v - v.mean(1, keepdim=True)) / (v.var(1, correction=0, keepdim=True) + 1e-5).sqrt() for v in h]
        outputs.append(torch.cat(normalised, 1) * p["norm.weight"] + p["norm.bias"])
    c, n = ([v / torch.exp(s) for v, s in zip(values, m, strict=True)] for values in (c, n))
    return torch.stack(outputs), tuple(torch.stack(part) for part in (h, c, n, m))


def mamba(p: Parameters, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Gu & Dao 2023, algorithm 2 with the discretisation of their code, state by state."""
    channels, states, rank = len(p["skip"]), len(state[0]), p["step_size.weight"].shape[1]
    w_v, w_g = p["input.weight"].chunk(2)
    h, read, outputs = list(state[0]), list(state[1]), []
    for row in x:
        read.append(row @ w_v.T)
        v = silu(_convolved(p, read))
        selected = v @ p["selection.weight"].T
        size = softplus(selected[:, :rank] @ p["step_size.weight"].T + p["step_size.bias"])
        y = p["skip"] * v
        for k in range(states):
            decay = torch.exp(size * -torch.exp(p["log_decay"][k * channels : (k + 1) * channels]))
            h[k] = decay * h[k] + size * selected[:, rank + k, None] * v
            y = y + selected[:, rank + states + k, None] * h[k]
        outputs.append((y * silu(row @ w_g.T)) @ p["output.weight"].T)
    return torch.stack(outputs), (torch.stack(h), torch.stack(read[-3:]))


LAYERS = {"gru": gru, "min_gru": min_gru, "min_lstm": min_lstm, "rg_lru": rg_lru, "slstm": slstm, "mamba": mamba}


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """Zhang & Sennrich 2019, as torch has it."""
    return torch.nn.functional.rms_norm(x, scale.shape, scale, 1e-6)
