"""Optimizers that other people wrote, and a loop that any optimizer can be tried in."""

from collections.abc import Callable, Iterable

import torch
from sparsify_loop import make
from storages import masked_only
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn import StepSparsifier, sparsify

__all__ = ["SAM", "Lookahead", "SignDescent", "Trial", "Whitened", "masked_only"]


class SAM(Optimizer):
    """Sharpness-aware minimization as it is usually written: a wrapper with two steps, or one with a closure."""

    def __init__(self, params: Iterable[nn.Parameter], base: Callable[..., Optimizer], rho: float = 0.05) -> None:
        super().__init__(params, {"rho": rho})
        self.base_optimizer = base(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        scale = 0.05 / (torch.stack([g.norm() for g in gradients]).norm() + 1e-12)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["old"] = p.data.clone()
                    p.add_(p.grad * scale + 0.01)  # which moves inactive weights too
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = self.state[p]["old"]
        self.base_optimizer.step()
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:
        with torch.enable_grad():
            closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


class Lookahead(Optimizer):
    """Slow weights that fast ones are drawn to: a wrapper that shares its base's groups."""

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        super().__init__(base.param_groups, {})
        self.param_groups = base.param_groups
        self.count = 0
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["slow"] = torch.ones_like(p)

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        self.base.step()
        self.count += 1
        if self.count % 5 == 0:
            for group in self.param_groups:
                for p in group["params"]:
                    slow = self.state[p]["slow"]
                    p.copy_(slow.lerp_(p, 0.5))


class Whitened(Optimizer):
    """Multiplies gradients by the inverse root of their second moments over rows, as Shampoo and SOAP do."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or p.dim() != 2:
                    continue
                total = self.state[p].setdefault("left", 1e-3 * torch.eye(p.shape[0]))
                total.add_(p.grad @ p.grad.T)
                values, vectors = torch.linalg.eigh(total)
                p.sub_(group["lr"] * vectors @ torch.diag(values.clamp(min=1e-6) ** -0.5) @ vectors.T @ p.grad)


class SignDescent(Optimizer):
    """Moves by signs, with a random one where the gradient is zero: entry by entry, and yet everywhere."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.sub_(group["lr"] * torch.where(p.grad == 0, torch.randn_like(p).sign(), p.grad.sign()))


class Trial:
    """A loop around any optimizer; `step` takes a closure if the optimizer wants one."""

    def __init__(
        self, make_optimizer: Callable[[list[nn.Parameter]], Optimizer], *, closure: bool = False, **settings: object
    ) -> None:
        self.model = make("gru")
        chosen = {"sparsity": 0.6, "steps": 20, "update_interval": 4} | settings
        dense = chosen.get("keep_dense", [])
        trained = [p for name, p in self.model.named_parameters() if name not in dense]
        self.optimizer = make_optimizer(trained)
        self.closure = closure
        self.sparsifier: StepSparsifier = sparsify(self.model, self.optimizer, **chosen)

    def backward(self) -> Tensor:
        """The loss of the coming step, and its gradients."""
        tokens = torch.randint(4, (6, 16), generator=torch.Generator().manual_seed(self.sparsifier.step))
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(tokens), tokens[0])
        torch.autograd.backward(loss)
        return loss

    def step(self) -> None:
        """A whole step."""
        if self.closure:
            self.optimizer.step(self.backward)
        else:
            self.backward()
            self.sparsifier.before_step()
            self.optimizer.step()
        self.sparsifier.after_step()

    def assert_sparse(self) -> None:
        """The promise: inactive is zero, and the number of active weights is what was asked for."""
        topology = self.sparsifier.topology
        for weight in topology:
            assert not weight.values[~weight.mask].count_nonzero(), weight.name
        assert topology.active == round(0.4 * topology.size)
        assert self.sparsifier.sparsity == 1 - topology.active / topology.size
        self.sparsifier.check()
