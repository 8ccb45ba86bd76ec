"""Trains the reader of mouth openings on encoded scenes; with noise, so that it does not depend on invisible details."""

import numpy as np
import torch
import torch.nn.functional as F

from lips import Lips
from muon import Muon
from scenes import Scenes
from training import Run, arguments

MOST_NOISE, HELD = 0.6, 10


@torch.no_grad()
def correlation(model, held):
    z, openings = held
    return float(np.corrcoef(model(z).flatten(), openings.flatten())[0, 1])


def main():
    parser = arguments(__doc__, "lips.pt", 4, 2e-3)
    parser.add_argument("--latents", default="latents", help="folder of shards")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--window", type=int, default=6, help="latents of a scene seen at once")
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(4)
    scenes = Scenes(args.latents)
    held = scenes.held(min(HELD, len(scenes) // 2))
    model, average = Lips(), Lips()
    run = Run(args, model, Muon(model, args.lr, skip=("head",)))
    while run.unfinished():
        batch = scenes.batch(rng, args.batch, args.window)
        z = batch.clip + MOST_NOISE * torch.rand(args.batch, 1, 1, 1, 1) * torch.randn_like(batch.clip)
        loss = run.step(lambda: F.mse_loss(model(z), batch.openings))
        if run.due(20):
            average.load_state_dict(run.average)
            print(f"{run.spent_s / 60:.1f} min, step {run.steps}, loss {loss:.4f}, held-out correlation {correlation(average, held):.3f}", flush=True)
            run.save()


if __name__ == "__main__":
    main()
