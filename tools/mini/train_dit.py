"""Trains the DiT on encoded scenes: flow matching, every block of a scene at one noise level, mostly the engine's own four.

New shards in the folder are taken in as they appear.
"""

import pathlib

import numpy as np
import torch
from safetensors.torch import load_file

import dit
import text_encoder
from muon import Muon
from training import Run, arguments, autocast

LEVEL_SHARES = (0.3, 0.26, 0.28, 0.04, 0.12)  # of the engine's four levels, and of any level
EMPTY_PROMPT = 0.1  # share of scenes without a prompt


class Scenes:
    """All shards of a folder in memory. z [N, 2 + F, 16, h, w] f16, features [N, L, C, 4 F] f16, rows [N, text_len, text_dim]."""

    def __init__(self, folder, text, text_len):
        self.folder, self.text, self.text_len, self.read = pathlib.Path(folder), text, text_len, set()
        self.z, self.features, self.rows = [], [], []
        self.update()
        if not self.z:
            raise SystemExit(f"{folder} has no shards; latents.py makes them")
        first = self.normalise_by()
        self.mean, self.std = first.mean((0, 1, 3, 4)), first.std((0, 1, 3, 4))

    def normalise_by(self):
        """The first shard's latents: the same however many shards there are later."""
        return torch.from_numpy(np.load(sorted(self.read)[0])["z"]).float()

    def update(self):
        for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9].npz")):
            if path not in self.read:
                shard = np.load(path)
                self.z += list(torch.from_numpy(shard["z"]))
                self.features += list(torch.from_numpy(shard["features"]))
                self.rows += [self.pad(rows) for rows in self.text.encode([str(c) for c in shard["captions"]])]
                self.read.add(path)

    def pad(self, rows):
        out = torch.zeros(self.text_len, rows.shape[1])
        out[:len(rows)] = torch.as_tensor(rows)[:self.text_len]
        return out

    def batch(self, rng, count, window):
        """-> z [count, 16, 2 + window, h, w] normalised (reference, motion, window), features [count, L, C, 4 window], rows, first latent."""
        index = rng.integers(len(self.z), size=count)
        pick = lambda parts: torch.stack([parts[i] for i in index]).float()
        z = (pick(self.z) - self.mean[:, None, None]) / self.std[:, None, None]
        rows = pick(self.rows) * torch.from_numpy(rng.random(count) >= EMPTY_PROMPT)[:, None, None]
        first = dit.BLOCK * int(rng.integers((z.shape[1] - 2 - window) // dit.BLOCK + 1))
        z = torch.cat([z[:, :2], z[:, 2 + first:2 + first + window]], 1).transpose(1, 2)
        return z, pick(self.features)[..., 4 * first:4 * (first + window)], rows, first


def region_weights(side, mouth, eyes):
    """[side, side], mean 1: the small parts of the picture that people look at count more."""
    weight = torch.ones(side, side)
    weight[int(side * 0.3):int(side * 0.53), int(side * 0.25):int(side * 0.75)] = eyes
    weight[int(side * 0.53):int(side * 0.84), int(side * 0.28):int(side * 0.72)] = mouth
    return weight / weight.mean()


def noise_levels(rng, count):
    """-> which level (4: any), sigma; each [count]."""
    which = torch.from_numpy(rng.choice(5, count, p=LEVEL_SHARES))
    u = torch.rand(count)
    return which, torch.where(which < 4, dit.schedule(4)[which.clamp(max=3)], 3 * u / (1 + 2 * u))


def loss_of(model, batch, rng, weight, report):
    z, features, rows, first = batch
    own = torch.from_numpy(rng.random(len(z)) < 0.3 * (first == 0))[:, None, None, None, None]  # the adaptive sink's reference
    reference = torch.where(own, z[:, :, 2:3], z[:, :, :1])
    motion, x0 = z[:, :, 1:2].expand(-1, -1, dit.MOTION_LATENTS, -1, -1), z[:, :, 2:]
    noise = torch.randn_like(x0)
    which, sigma = noise_levels(rng, len(z))
    s = sigma.view(-1, 1, 1, 1, 1)
    start = first if rng.random() < 0.5 else dit.BLOCK * int(rng.integers(1, 2000))
    positions = model.positions(*x0.shape[-2:])
    with autocast():
        text = model.text(rows)
        cond = model.prefill(reference, motion, text, positions)
        v = model((1 - s) * x0 + s * noise, sigma * 1000, cond, text, features, positions, start, int(rng.integers(4, 31)))
    error = ((v.float() - (noise - x0)) ** 2 * weight).mean((1, 2, 3, 4))
    for level, value in zip(which.tolist(), error.tolist()):
        report.setdefault(level, []).append(value)
    return error.mean()


def start_from(model, folder):
    """Weights of a checkpoint folder, as export.py writes them."""
    weights = load_file(pathlib.Path(folder) / "diffusion_pytorch_model.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})


def main():
    parser = arguments(__doc__, "dit.pt", 46, 2e-3)
    parser.add_argument("--latents", default="latents", help="folder of shards")
    parser.add_argument("--text", default="text.pt")
    parser.add_argument("--tokenizer", default="spiece.model")
    parser.add_argument("--init", help="checkpoint folder to start from, when --out is not there yet")
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--window", type=int, default=15, help="latents of a scene seen at once: the ring and one block more")
    parser.add_argument("--mouth", type=float, default=4, help="loss weight of the mouth region")
    parser.add_argument("--eyes", type=float, default=2, help="loss weight of the eye region")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng()
    scenes = Scenes(args.latents, text_encoder.load(args.text, args.tokenizer), dit.CONFIG["text_len"])
    model = dit.DiT(dict(dit.CONFIG, num_audio_layers=scenes.features[0].shape[0], audio_dim=scenes.features[0].shape[1]))
    if args.init:
        start_from(model, args.init)
    adam = ("embedding", "frame_packer", "cond_mask", "modulation", "head", "cond_encoder", "time_")
    run = Run(args, model, Muon(model, args.lr, skip=adam))
    weight, report = region_weights(scenes.z[0].shape[-1], args.mouth, args.eyes), {}
    while run.unfinished():
        batch = scenes.batch(rng, args.batch, args.window)
        run.step(lambda: loss_of(model, batch, rng, weight, report))
        if run.due():
            levels = ", ".join(f"{k}: {np.mean(v):.4f}" for k, v in sorted(report.items()))
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, {len(scenes.z)} scenes, error by level {levels}", flush=True)
            run.save(config=model.config, mean=scenes.mean, std=scenes.std)
            report.clear()
            scenes.update()


if __name__ == "__main__":
    main()
