"""Muon (momentum made orthogonal; Jordan et al. 2024) for matrices and kernels, Adam for the rest; lr means the same for both."""

import torch


def orthogonal(g, steps=5):
    """[..., m, n] -> about the nearest matrix with equal singular values, by Newton-Schulz."""
    g = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = g.shape[-2] > g.shape[-1]
    g = g.transpose(-2, -1) if tall else g
    for _ in range(steps):
        a = g @ g.transpose(-2, -1)
        g = 3.4445 * g + (-4.7750 * a + 2.0315 * a @ a) @ g
    return g.transpose(-2, -1) if tall else g


class Muon(torch.optim.Optimizer):
    """skip: parts of names whose matrices take Adam all the same (embeddings, heads, modulation)."""

    def __init__(self, model, lr, skip=(), momentum=0.95, betas=(0.9, 0.98)):
        matrices, rest = [], []
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            big = p.dim() >= 2 and min(p.shape[0], p[0].numel()) >= 8 and not any(part in name for part in skip)
            (matrices if big else rest).append(p)
        super().__init__([dict(params=matrices, muon=True), dict(params=rest, muon=False)], dict(lr=lr, count=0))
        self.momentum, self.betas = momentum, betas

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["count"] += 1
            update = self._muon if group["muon"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    update(p, self.state[p], group)

    def _muon(self, p, state, group):
        m = state.setdefault("m", torch.zeros_like(p))
        m.mul_(self.momentum).add_(p.grad)
        g = (p.grad + self.momentum * m).reshape(p.shape[0], -1)
        p.add_(orthogonal(g).reshape(p.shape), alpha=-group["lr"] * 0.2 * max(g.shape) ** 0.5)

    def _adam(self, p, state, group):
        m, v = state.setdefault("m", torch.zeros_like(p)), state.setdefault("v", torch.zeros_like(p))
        m.lerp_(p.grad, 1 - self.betas[0])
        v.lerp_(p.grad**2, 1 - self.betas[1])
        c1, c2 = 1 - self.betas[0] ** group["count"], 1 - self.betas[1] ** group["count"]
        p.add_(m / c1 / ((v / c2).sqrt() + 1e-8), alpha=-group["lr"])
