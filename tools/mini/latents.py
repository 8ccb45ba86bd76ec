"""Encodes seeded scenes for trainings, in shards: latents by the VAE; voice, caption and mouth opening as they are.

A shard is finished or absent, so that a stopped run goes on where it was and training may start on the first ones.
"""

import argparse
import dataclasses
import os
import pathlib

import numpy as np
import torch

import vae
import world

STILL_FRAMES = 13  # in front of the clip: latent 1 is the reference, latent 3 near the still's fixed point, the motion latents
SILENT_EVERY = 24


def load_vae(path):
    """Of a training's checkpoint, or Wan2.1_VAE.pth of a checkpoint folder."""
    saved = torch.load(path)
    weights = {name: value.float() for name, value in saved.get("average", saved).items()}
    model = vae.channels_last(vae.VAE(weights["decoder.head.2.weight"].shape[1]))
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def encode(codec, scenes):
    """-> z [N, 2 + frames / 4, 16, h, w] f16 (reference, motion, clip).

    At least two scenes at a time: PyTorch 2 is many times slower with a batch of one."""
    frames = np.stack([np.concatenate([np.repeat(s.still[None], STILL_FRAMES, 0), s.frames]) for s in scenes])
    z = codec.encode(vae.to_video(frames)).transpose(1, 2)
    return z[:, [1, 3, *range(4, z.shape[1])]].half().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", default="vae.pt")
    parser.add_argument("--out", type=pathlib.Path, default="latents", help="folder of shards")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--scenes", type=int, default=40, help="a shard, even")
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="several processes of one thread each are faster than one of several")
    args = parser.parse_args()
    if hasattr(torch, "compile"):
        vae.norm_silu = torch.compile(vae.norm_silu, dynamic=True)  # a third of the time otherwise
    codec = load_vae(args.vae)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for shard in range(args.first, args.first + args.shards):
        path = args.out / f"{shard:04d}.npz"
        if path.exists():
            continue
        seeds = range(10**6 + shard * args.scenes, 10**6 + (shard + 1) * args.scenes)
        scenes, z = [], []
        for pair in zip(seeds[::2], seeds[1::2]):
            drawn = [world.scene(seed, args.frames, args.size, silent=seed % SILENT_EVERY == 0) for seed in pair]
            z.append(encode(codec, drawn))
            scenes += [dataclasses.replace(s, frames=None) for s in drawn]
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, z=np.concatenate(z), voices=np.stack([s.audio for s in scenes]).astype(np.float16), openings=np.stack([s.opening for s in scenes]),
                 captions=np.array([s.caption for s in scenes]))
        os.replace(partial, path)
        print(f"shard {shard}", flush=True)


if __name__ == "__main__":
    main()
