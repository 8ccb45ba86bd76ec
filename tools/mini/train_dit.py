"""Trains the DiT on encoded scenes: flow matching, every block of a scene at one noise level, mostly the engine's own four.

New shards in the folder are taken in as they appear.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import audio_encoder
import dit
import lips
import text_encoder
from muon import Muon
from scenes import Scenes
from sentences import mood_and_look, paraphrase_of
from training import Run, arguments, autocast

LEVEL_SHARES = (0.3, 0.26, 0.28, 0.04, 0.12)  # of the engine's four levels, and of any level
EMPTY_PROMPT, PARAPHRASES = 0.1, 2  # share of scenes without a prompt; other ways a caption is put
ADAM = ("embedding", "frame_packer", "cond_mask", "modulation", "head", "cond_encoder", "time_")


class Told:
    """Text rows of scenes: the caption's, what people might type instead, and those of no prompt."""

    def __init__(self, text, text_len):
        self.text, self.text_len, self.rows, self.rng = text, text_len, [], np.random.default_rng(5)
        self.empty = self.encode([""])[0]

    def encode(self, texts):
        """-> [texts, text_len, text_dim], zeros behind."""
        rows = self.text.encode(texts)
        out = torch.zeros(len(texts), self.text_len, rows[0].shape[1])
        for i, r in enumerate(rows):
            out[i, :len(r)] = r[:self.text_len]
        return out

    def update(self, captions):
        for caption in captions[len(self.rows):]:
            told = [paraphrase_of(self.rng, *mood_and_look(caption)) for _ in range(PARAPHRASES)]
            self.rows.append(self.encode([caption, caption, *told]))

    def pick(self, rng, index):
        """-> [B, text_len, text_dim]."""
        return torch.stack([self.empty if rng.random() < EMPTY_PROMPT else self.rows[i][rng.integers(len(self.rows[i]))] for i in index])


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


def truth_of(batch, rng):
    """-> reference (the adaptive sink's own latent at times), motion, clip, noise, noise level index and sigma."""
    own = torch.from_numpy(rng.random(len(batch.clip)) < 0.3 * (batch.first == 0))[:, None, None, None, None]
    reference = torch.where(own, batch.clip[:, :, :1], batch.reference)
    motion = batch.motion.expand(-1, -1, dit.MOTION_LATENTS, -1, -1)
    return reference, motion, batch.clip, torch.randn_like(batch.clip), *noise_levels(rng, len(batch.clip))


def loss_of(model, batch, rows, rng, judges, report):
    """judges: weight of each latent [h, w]; the reader of lips or None, and what it counts."""
    weight, lips, lips_weight = judges
    reference, motion, x0, noise, which, sigma = truth_of(batch, rng)
    s = sigma.view(-1, 1, 1, 1, 1)
    start = batch.first if rng.random() < 0.5 else dit.BLOCK * int(rng.integers(1, 2000))
    positions = model.positions(*x0.shape[-2:])
    noisy = (1 - s) * x0 + s * noise
    with autocast():
        text = model.text(rows)
        cond = model.prefill(reference, motion, text, positions)
        v = model(noisy, sigma * 1000, cond, text, batch.features, positions, start, int(rng.integers(4, 31)))
    error = ((v.float() - (noise - x0)) ** 2 * weight).mean((1, 2, 3, 4))
    for level, value in zip(which.tolist(), error.tolist()):
        report.setdefault(f"level {level}", []).append(value)
    if lips is None:
        return error.mean()
    got = lips(noisy - s * v.float())
    first = which == 0
    if first.any() and batch.openings[first].std() > 0:  # else all are silent
        report.setdefault("lips at level 0", []).append(float(np.corrcoef(got[first].detach().flatten(), batch.openings[first].flatten())[0, 1]))
    return error.mean() + lips_weight * F.mse_loss(got, batch.openings)


def start_from(model, folder):
    """Weights of a checkpoint folder, as export.py writes them."""
    weights = load_file(pathlib.Path(folder) / "diffusion_pytorch_model.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})


def main():
    parser = arguments(__doc__, "dit.pt", 46, 2e-3)
    parser.add_argument("--latents", default="latents", help="folder of shards")
    parser.add_argument("--audio", default="audio.pt")
    parser.add_argument("--text", default="text.pt")
    parser.add_argument("--tokenizer", default="spiece.model")
    parser.add_argument("--init", help="checkpoint folder to start from, when --out is not there yet")
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--window", type=int, default=15, help="latents of a scene seen at once: the KV cache and one block more")
    parser.add_argument("--mouth", type=float, default=4, help="loss weight of the mouth region")
    parser.add_argument("--lips", help="checkpoint of train_lips.py: guesses are also judged by the mouth opening that it reads off them")
    parser.add_argument("--lips-weight", type=float, default=1)
    parser.add_argument("--eyes", type=float, default=2, help="loss weight of the eye region")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng()
    scenes, told = Scenes(args.latents, audio_encoder.load(args.audio)), Told(text_encoder.load(args.text, args.tokenizer), dit.CONFIG["text_len"])
    told.update(scenes.captions)
    layers, width = scenes.features[0].shape[:2]
    model = dit.DiT(dict(dit.CONFIG, num_audio_layers=layers, audio_dim=width))
    if args.init:
        start_from(model, args.init)
    run = Run(args, model, Muon(model, args.lr, skip=ADAM))
    judges = region_weights(scenes.z[0].shape[-1], args.mouth, args.eyes), lips.load(args.lips) if args.lips else None, args.lips_weight
    report = {}
    while run.unfinished():
        batch = scenes.batch(rng, args.batch, args.window)
        run.step(lambda: loss_of(model, batch, told.pick(rng, batch.index), rng, judges, report))
        if run.due():
            figures = ", ".join(f"{k}: {np.mean(v):.4f}" for k, v in sorted(report.items()))
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, {len(scenes)} scenes, {figures}", flush=True)
            run.save(config=model.config, mean=scenes.mean, std=scenes.std)
            report.clear()
            scenes.update()
            told.update(scenes.captions)


if __name__ == "__main__":
    main()
