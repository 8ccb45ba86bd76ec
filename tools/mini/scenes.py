"""Encoded scenes (latents.py) in memory, for trainings."""

import dataclasses
import pathlib

import numpy as np
import torch

import audio_encoder
from dit import BLOCK


@dataclasses.dataclass
class Batch:
    """B windows of F latents; all latents normalised, [B, 16, ., h, w] f32."""

    reference: torch.Tensor  # one latent
    motion: torch.Tensor  # one latent
    clip: torch.Tensor  # F latents
    features: torch.Tensor  # [B, L, C, 4 F]; None without a listener
    openings: torch.Tensor  # [B, 4 F], the mouth's
    index: np.ndarray  # [B], which scenes
    first: int  # latent where the windows begin


class Scenes:
    """All shards of a folder, heard by an AudioEncoder if there is one. Some may be kept from training (held)."""

    def __init__(self, folder, listener=None):
        self.folder, self.listener, self.read, self.kept = pathlib.Path(folder), listener, set(), 0
        self.z, self.features, self.openings, self.captions = [], [], [], []
        self.update()
        if not self.z:
            raise SystemExit(f"{folder} has no shards; latents.py makes them")
        first = torch.stack(self.z[:self.first_shard]).float()
        self.mean, self.std = first.mean((0, 1, 3, 4)), first.std((0, 1, 3, 4))  # the same however many shards there are later

    def __len__(self):
        return len(self.z)

    def update(self):
        """Loads shards that were added since."""
        for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9].npz")):
            if path not in self.read:
                shard = np.load(path)
                self.z += list(torch.from_numpy(shard["z"]))
                self.openings += list(torch.from_numpy(shard["openings"]))
                if self.listener is not None:
                    self.features += list(audio_encoder.features(self.listener, shard["voices"], shard["openings"].shape[1]).half())
                self.captions += [str(caption) for caption in shard["captions"]]
                if not self.read:
                    self.first_shard = len(self.z)
                self.read.add(path)

    def normalised(self, index):
        """-> [B, 16, 2 + latents, h, w]: reference, motion, clip."""
        z = torch.stack([self.z[i] for i in index]).float()
        return ((z - self.mean[:, None, None]) / self.std[:, None, None]).transpose(1, 2)

    def held(self, count):
        """-> clips and openings of the last scenes so far; no batch holds them."""
        self.kept = count
        index = range(len(self) - count, len(self))
        return self.normalised(index)[:, :, 2:], torch.stack([self.openings[i] for i in index]).float()

    def batch(self, rng, count, window):
        """`count` scenes at random, the same window of each, on a block's edge."""
        index = rng.integers(len(self) - self.kept, size=count)
        z = self.normalised(index)
        first = BLOCK * int(rng.integers((z.shape[2] - 2 - window) // BLOCK + 1))
        frames = slice(4 * first, 4 * (first + window))
        pick = lambda parts: torch.stack([parts[i][..., frames] for i in index]).float()
        return Batch(z[:, :, :1], z[:, :, 1:2], z[:, :, 2 + first:2 + first + window], pick(self.features) if self.features else None, pick(self.openings), index, first)
