"""What every training here shares: a clock that survives restarts, a learning rate over it, averages, atomic checkpoints."""

import argparse
import copy
import math
import os
import pathlib
import time

import torch


def cosine(share, hold=0.3, floor=0.02):
    """Learning-rate factor: 1 until `hold`, then a cosine down to `floor`."""
    if share < hold:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - hold) / (1 - hold))))


def autocast():
    """bf16 where the CPU multiplies it (elsewhere it is emulated, many times slower) and PyTorch's norms take it (1.13's do not)."""
    has_bf16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text() and int(torch.__version__.split(".")[0]) >= 2
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16)


def part(state, name):
    """The sub-module's entries of a state dict, without its name."""
    prefix = name + "."
    return {k[len(prefix):]: v for k, v in state.items() if k.startswith(prefix)}


def arguments(description, out, minutes, lr):
    """A parser with the options of every training."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=out, help="checkpoint; training goes on from it if it is there")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training in all, over all restarts")
    parser.add_argument("--steps", type=int, default=10**9, help="stop after so many in all, to try things")
    parser.add_argument("--lr", type=float, default=lr)
    return parser


class Run:
    """A training run (see arguments) that goes on where its checkpoint stopped.

    The checkpoint holds the model, its running average, the optimiser and the minutes spent; it is replaced in one step."""

    def __init__(self, args, model, optimizer):
        self.path, self.budget_s, self.last_step, self.lr = pathlib.Path(args.out), args.minutes * 60, args.steps, args.lr
        self.model, self.optimizer = model, optimizer
        self.average, self.spent_s, self.steps = copy.deepcopy(model.state_dict()), 0.0, 0
        if self.path.exists():
            saved = torch.load(self.path)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            self.average, self.spent_s, self.steps = saved["average"], saved["spent_s"], saved["steps"]
        self.saved_s = self.reported_s = self.spent_s

    @property
    def share(self):
        return min(1.0, self.spent_s / self.budget_s)

    def unfinished(self):
        return self.spent_s < self.budget_s and self.steps < self.last_step

    def step(self, loss_function, clip=1.0):
        """One optimiser step on loss_function(); -> the loss."""
        begin = time.time()
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (self.steps + 1) / 60) * cosine(self.share)
        self.optimizer.zero_grad()
        loss = loss_function()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.steps += 1
        weight = max(0.002, 9 / (10 + self.steps))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, weight)
        self.spent_s += time.time() - begin
        return float(loss.detach())

    def due(self, seconds=60):
        """True about once every `seconds` of training and at the end."""
        if self.spent_s - self.reported_s < seconds and self.unfinished():
            return False
        self.reported_s = self.spent_s
        return True

    def save(self, **extra):
        """extra: what the reader of the checkpoint needs to know (the configuration)."""
        partial = self.path.with_suffix(".partial")
        torch.save(dict(model=self.model.state_dict(), average=self.average, optimizer=self.optimizer.state_dict(),
                        spent_s=self.spent_s, steps=self.steps, **extra), partial)
        os.replace(partial, self.path)
