"""Trains the audio encoder on what moves the face: viseme classes, and the tracks 80 ms to either side."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import world
from audio_encoder import CENTRE_S, HOP_S, AudioEncoder, normalise
from muon import Muon
from speech import FPS, RATE, TRACK_RATE, VISEME_CLASSES
from training import Run, arguments, autocast

OFFSETS_S = (-0.08, -0.04, 0.0, 0.04, 0.08)
TRACKS = 4  # opening, width, blink, nod


class Listener(nn.Module):
    """The encoder and the two heads that teach it; only the encoder is kept."""

    def __init__(self):
        super().__init__()
        self.encoder = AudioEncoder()
        width = self.encoder.config["hidden_size"]
        self.tracks, self.classes = nn.Linear(width, TRACKS * len(OFFSETS_S)), nn.Linear(width, VISEME_CLASSES)

    def forward(self, audio):
        last = self.encoder(audio)[-1]
        return self.tracks(last).unflatten(-1, (len(OFFSETS_S), TRACKS)), self.classes(last)


def example(scene_seed, frames, held_out=False):
    """-> audio [n], tracks [T, 5, 4], classes [T] of a scene; one in thirty is silence."""
    s = world.scene(scene_seed, frames, held_out=held_out, pixels=False, silent=scene_seed % 30 == 29)
    count = (len(s.audio) - 400) // 320 + 1
    t = HOP_S * np.arange(count) + CENTRE_S
    middles = (np.arange(frames) + 0.5) / FPS
    tracks = np.stack([np.stack([np.interp(t + o, middles, s.targets[:, k]) for k in range(TRACKS)], -1) for o in OFFSETS_S], 1)
    classes = s.visemes[np.minimum((t * TRACK_RATE).astype(int), len(s.visemes) - 1)]
    return normalise(s.audio).astype(np.float32), tracks.astype(np.float32), classes


def collate(examples):
    return [torch.from_numpy(np.stack(part)) for part in zip(*examples)]


class Pool:
    """Examples of two lengths, renewed one at a time."""

    def __init__(self, rng, count):
        self.rng, self.kinds = rng, ((125, 8), (600, 2))  # frames, examples a step
        self.data = [[self.new(frames) for _ in range(max(n, count * n // 8))] for frames, n in self.kinds]

    def new(self, frames):
        return example(int(self.rng.integers(10**9)), frames)

    def batch(self):
        kind = int(self.rng.random() < 0.25)
        frames, n = self.kinds[kind]
        data = self.data[kind]
        if kind == 0 or self.rng.random() < 0.3:
            data[self.rng.integers(len(data))] = self.new(frames)
        return collate([data[i] for i in self.rng.choice(len(data), n, replace=False)])


def loss_of(model, batch):
    audio, tracks, classes = batch
    with autocast():
        got, scores = model(audio + 0.002 * torch.randn_like(audio))
    weight = torch.tensor([4.0, 1.0, 1.0, 1.0])
    mse = (((got.float() - tracks) ** 2) * weight).mean()
    return 10 * mse + 0.3 * F.cross_entropy(scores.float().flatten(0, 1), classes.flatten())


@torch.no_grad()
def correlations(model, held):
    """Of the tracks at offset 0 over held-out voices: opening, width, blink, nod; and the share of right visemes."""
    audio, tracks, classes = held
    got, scores = model(audio)
    middle = len(OFFSETS_S) // 2
    r = [float(np.corrcoef(got[:, :, middle, k].flatten(), tracks[:, :, middle, k].flatten())[0, 1]) for k in range(TRACKS)]
    return [round(v, 3) for v in r] + [round(float((scores.argmax(-1) == classes).float().mean()), 3)]


def main():
    parser = arguments(__doc__, "audio.pt", 8, 1.5e-3)
    parser.add_argument("--pool", type=int, default=600)
    parser.add_argument("--held", type=int, default=24)
    args = parser.parse_args()
    torch.manual_seed(0)
    pool = Pool(np.random.default_rng(2), args.pool)
    held = collate([example(30 * i, 200, held_out=True) for i in range(args.held)])
    model, average = Listener(), Listener()
    run = Run(args, model, Muon(model, args.lr))
    while run.unfinished():
        batch = pool.batch()
        loss = run.step(lambda: loss_of(model, batch))
        if run.due():
            average.load_state_dict(run.average)
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, loss {loss:.4f}, held-out opening/width/blink/nod/visemes "
                  f"{correlations(average, held)}", flush=True)
            run.save(config=model.encoder.config)


if __name__ == "__main__":
    main()
