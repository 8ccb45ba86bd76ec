"""Reads mouth opening from latents: a loss of the DiT's training beside the distance to the target."""

import torch
import torch.nn as nn
import torch.nn.functional as F

FRAMES = 4  # a latent


class Lips(nn.Module):
    """Normalised latents [B, 16, F, h, w] -> opening [B, 4 F], 0..1. A latent sees its neighbours."""

    def __init__(self, width=48):
        super().__init__()
        self.wide = nn.Conv3d(16, width, (1, 3, 3), padding=(0, 1, 1))
        self.near = nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1)
        self.far = nn.Conv3d(2 * width, 2 * width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.head = nn.Linear(2 * width * 16, FRAMES)

    def forward(self, z):
        y = F.gelu(self.far(F.gelu(self.near(F.gelu(self.wide(z))))))
        y = F.adaptive_avg_pool3d(y, (None, 4, 4))
        return self.head(y.transpose(1, 2).flatten(2)).flatten(1)


def load(path):
    saved = torch.load(path)
    model = Lips()
    model.load_state_dict(saved["average"])
    return model.requires_grad_(False).eval()
