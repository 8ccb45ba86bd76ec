"""Trains the VAE: single images first (cheap, and most of the quality), then short clips.

Many small crops a step: few large ones leave colour unlearnt. --freeze-encoder trains the decoder alone, so that latents
already encoded, and a DiT trained on them, stay valid.
"""

import math

import numpy as np
import torch

import vae
import world
from character import Pose, character, draw
from muon import Muon
from training import Run, arguments, autocast


def random_pose(rng):
    """Any face the world can make, in transition too."""
    mood = dict(zip(("happy", "angry", "surprised"), np.eye(4)[rng.integers(4)][:3] * rng.random()))
    return Pose(opening=rng.random() if rng.random() < 0.75 else 0.0, width=rng.uniform(-1, 1), blink=rng.choice([0, 0, 0, 0, 0.5, 1.0]),
                gaze_x=rng.uniform(-1, 1) if rng.random() < 0.5 else 0.0, dx=rng.normal(0, 0.012), dy=rng.normal(0, 0.01), turn=rng.normal(0, 1.5), **mood)


class Pictures:
    """A pool of drawn images that is refilled. pictures [count, 1, S, S, 3] u8."""

    def __init__(self, rng, count, size):
        self.rng, self.size = rng, size
        self.data = np.stack([self.draw() for _ in range(count)])

    def draw(self):
        return draw(character(self.rng), random_pose(self.rng), self.size)[None]

    def renew(self):
        for _ in range(2):
            self.data[self.rng.integers(len(self.data))] = self.draw()


class Clips:
    """A pool of scenes' frames. data [count, frames, S, S, 3] u8."""

    def __init__(self, rng, count, size, frames=49):
        self.rng, self.size, self.frames, self.steps = rng, size, frames, 0
        self.data = np.stack([self.draw() for _ in range(count)])

    def draw(self):
        return world.scene(int(self.rng.integers(10**9)), self.frames, self.size).frames

    def renew(self):
        self.steps += 1
        if self.steps % 4 == 0:
            self.data[self.rng.integers(len(self.data))] = self.draw()


def batch(rng, data, count, crop, frames):
    """Random crops; 40 % of them around the mouth or the eyes; half of them mirrored."""
    out, size = [], data.shape[2]
    crop = min(crop, size)
    for _ in range(count):
        i, t = rng.integers(len(data)), rng.integers(data.shape[1] - frames + 1)
        y, x = rng.integers(size - crop + 1), rng.integers(size - crop + 1)
        if rng.random() < 0.4 and crop < size:
            centre = 0.66 if rng.random() < 0.7 else 0.45
            y, x = (int(np.clip(size * m - crop / 2 + rng.integers(-size // 10, size // 10 + 1), 0, size - crop)) for m in (centre, 0.5))
        clip = data[i, t:t + frames, y:y + crop, x:x + crop]
        out.append(clip[:, :, ::-1] if rng.random() < 0.5 else clip)
    return vae.to_video(np.stack(out))


@torch.no_grad()
def psnr_db(model, held):
    """held [N, T, S, S, 3] u8 -> dB of first frames, of the others, of the others' mouth region."""
    out, s = [], held.shape[2]
    for clip in held:
        video = vae.to_video(clip[None])
        error = (model.decode(model.encode(video)).float().clamp(-1, 1) - video) ** 2
        parts = [error[:, :, :1], error[:, :, 1:], error[:, :, 1:, s // 2:int(s * 0.9), int(s * 0.3):int(s * 0.7)]]
        out.append([-10 * math.log10(p.mean() / 4) if p.numel() else float("nan") for p in parts])
    return np.mean(out, 0).round(2).tolist()


def loss_of(model, video, rng, frozen):
    with autocast():
        with torch.set_grad_enabled(not frozen):
            mean = model.encode(video)
        noise = torch.randn_like(mean) * mean.detach().float().std() * rng.uniform(0, 0.06)  # what the DiT will get wrong
        picture = model.decode(mean + noise)
    d = picture.float() - video
    chroma = (d[:, 0] - d[:, 1]).abs().mean() + (d[:, 2] - d[:, 1]).abs().mean()
    return 0.5 * d.abs().mean() + 0.25 * chroma + 5 * (d * d).mean() + 1e-3 * (mean.float() ** 2).mean()


def main():
    parser = arguments(__doc__, "vae.pt", 31, 2e-3)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--pictures", type=float, default=0.45, help="share of the time on single pictures")
    parser.add_argument("--pool", type=int, default=3000, help="pictures kept drawn; an eighth as many clips")
    parser.add_argument("--held", type=int, default=8, help="held-out scenes measured")
    parser.add_argument("--init", help="weights to start from (a checkpoint's average)")
    parser.add_argument("--freeze-encoder", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    held = np.stack([world.scene(i, 44, args.size, held_out=True).frames[-17:] for i in range(args.held)])
    model = vae.channels_last(vae.VAE(args.dim))
    if args.init:
        model.load_state_dict(torch.load(args.init)["average"])
    if args.freeze_encoder:
        model.encoder.requires_grad_(False)
        model.conv1.requires_grad_(False)
    run = Run(args, model, Muon(model, args.lr))
    average = vae.channels_last(vae.VAE(args.dim))
    pictures = clips = None
    while run.unfinished():
        if run.share < args.pictures:
            pictures = pictures or Pictures(rng, args.pool, args.size)
            video = batch(rng, pictures.data, 16, args.crop, 1)
            pictures.renew()
        else:
            clips = clips or Clips(rng, max(8, args.pool // 8), args.size)
            video = batch(rng, clips.data, 5, 48, 9) if rng.random() < 0.7 else batch(rng, clips.data, 2, args.crop, 13)
            clips.renew()
        loss = run.step(lambda: loss_of(model, video, rng, args.freeze_encoder))
        if run.due(120):
            average.load_state_dict(run.average)
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, loss {loss:.4f}, dB first/others/mouth {psnr_db(average, held)}", flush=True)
            run.save(dim=args.dim)


if __name__ == "__main__":
    main()
