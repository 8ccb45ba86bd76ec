"""The Wan 2.1 video VAE, narrow, in whole-sequence form under the original's tensor names.

video [B, 3, 1 + 4k, H, W] in -1..1 <-> latent [B, 16, 1 + k, H/8, W/8]. Equal to the original's chunked form
(wan/modules/vae2_1.py): its caches hold what a causal convolution over the whole sequence sees anyway.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from dit import fused_attention

Z = 16
MULTIPLIERS = (1, 2, 4, 4)
# Statistics of the published VAE's latents; the engine maps raw latents through them (wan/modules/vae2_1.py).
WAN_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
WAN_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


def to_video(clips):
    """[B, T, S, S, 3] u8 -> [B, 3, T, S, S] in -1..1, channels innermost."""
    video = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return video.contiguous(memory_format=torch.channels_last_3d)


def norm_only(x, gamma):  # [..., C]
    y = x.float()
    return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-12) * gamma).to(x.dtype)


def norm_silu(x, gamma):
    return F.silu(norm_only(x, gamma))


class Norm(nn.Module):
    """Channel RMS norm, optionally followed by SiLU. gamma [C, 1, 1, 1] (or [C, 1, 1] for pictures)."""

    def __init__(self, channels, dims=3, act=True):
        super().__init__()
        self.gamma, self.act = nn.Parameter(torch.ones(channels, *[1] * dims)), act

    def forward(self, x):
        kernel = norm_silu if self.act else norm_only
        return kernel(x.movedim(1, -1), self.gamma.flatten()).movedim(-1, 1)


class CausalConv3d(nn.Conv3d):
    """Causal: depends on this and earlier frames only; for a single frame, whose earlier frames are zeros, it is cheaper."""

    def __init__(self, fan_in, fan_out, kernel, padding=0):
        super().__init__(fan_in, fan_out, kernel, padding=(0, padding, padding))
        self.before = self.kernel_size[0] - 1
        with torch.no_grad():  # starts as a per-frame network: training on single images carries over to video
            self.weight[:, :, :-1] = 0
            self.weight[:, :, -1] *= self.kernel_size[0] ** 0.5

    def forward(self, x):
        if x.shape[2] == 1:
            return F.conv2d(x.squeeze(2), self.weight[:, :, -1], self.bias, padding=self.padding[1:]).unsqueeze(2)
        return super().forward(F.pad(x, (0, 0, 0, 0, self.before, 0)) if self.before else x)


class ResidualBlock(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.residual = nn.ModuleDict({"0": Norm(fan_in), "2": CausalConv3d(fan_in, fan_out, 3, 1),
                                       "3": Norm(fan_out), "6": CausalConv3d(fan_out, fan_out, 3, 1)})
        nn.init.zeros_(self.residual["6"].weight)
        if fan_in != fan_out:
            self.shortcut = CausalConv3d(fan_in, fan_out, 1)

    def forward(self, x):
        y = x
        for layer in self.residual.values():
            y = layer(y)
        return (self.shortcut(x) if hasattr(self, "shortcut") else x) + y


class AttentionBlock(nn.Module):
    """One head over the pixels of each frame."""

    def __init__(self, channels):
        super().__init__()
        self.norm = Norm(channels, 2, act=False)
        self.to_qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)

    def forward(self, x):
        b, c, t, h, w = x.shape
        y = x.transpose(1, 2).reshape(b * t, c, h, w)
        q, k, v = self.to_qkv(self.norm(y)).flatten(2).transpose(1, 2).chunk(3, -1)
        y = fused_attention(q, k, v).transpose(1, 2).reshape(b * t, c, h, w)
        return x + self.proj(y).reshape(b, t, c, h, w).transpose(1, 2)


def per_frame(f, x):
    b, c, t, h, w = x.shape
    y = f(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)


class Downsample(nn.Module):
    def __init__(self, channels, time):
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        if time:  # starts as the mean of each pair
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
            with torch.no_grad():
                self.time_conv.weight.mul_(0.1)[:, :, 1:, 0, 0] += 0.5 * torch.eye(channels)[:, :, None]
                self.time_conv.bias.zero_()

    def forward(self, x):
        x = per_frame(lambda y: self.resample["1"](F.pad(y, (0, 1, 0, 1))), x)
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)  # the first frame passes
        return x


class Upsample(nn.Module):
    def __init__(self, channels, time):
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels // 2, 3, padding=1)})
        if time:  # starts as repetition
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))
            with torch.no_grad():
                self.time_conv.weight.mul_(0.1)[:, :, -1, 0, 0] += torch.eye(channels).repeat(2, 1)
                self.time_conv.bias.zero_()

    def forward(self, x):
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            y = x[:, :, 1:]
            b, c, t, h, w = y.shape
            y = F.pad(y, (0, 0, 0, 0, 2, 0))
            y = F.conv3d(y, self.time_conv.weight, self.time_conv.bias)  # the first frame is no past: it passes
            y = y.reshape(b, 2, c, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)
            x = torch.cat([x[:, :, :1], y], 2)
        return per_frame(lambda y: self.resample["1"](F.interpolate(y, scale_factor=2, mode="nearest-exact")), x)


def _middle(channels):
    return nn.Sequential(ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels))


class Encoder(nn.Module):
    def __init__(self, dim, multipliers):
        super().__init__()
        dims = [dim] + [dim * m for m in multipliers]
        self.conv1, layers = CausalConv3d(3, dim, 3, 1), []
        for i, (a, b) in enumerate(zip(dims[:-1], dims[1:])):
            layers += [ResidualBlock(a, b), ResidualBlock(b, b)] + ([Downsample(b, i > 0)] if i < 3 else [])
        self.downsamples, self.middle = nn.Sequential(*layers), _middle(dims[-1])
        self.head = nn.ModuleDict({"0": Norm(dims[-1]), "2": CausalConv3d(dims[-1], 2 * Z, 3, 1)})

    def forward(self, x):
        x = self.middle(self.downsamples(self.conv1(x)))
        return self.head["2"](self.head["0"](x))


class Decoder(nn.Module):
    def __init__(self, dim, multipliers):
        super().__init__()
        dims = [dim * m for m in (multipliers[-1],) + multipliers[::-1]]
        self.conv1, self.middle, layers = CausalConv3d(Z, dims[0], 3, 1), _middle(dims[0]), []
        for i, (a, b) in enumerate(zip(dims[:-1], dims[1:])):
            a = a // 2 if i else a
            layers += [ResidualBlock(a, b), ResidualBlock(b, b), ResidualBlock(b, b)] + ([Upsample(b, i < 2)] if i < 3 else [])
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.ModuleDict({"0": Norm(dim), "2": CausalConv3d(dim, 3, 3, 1)})

    def forward(self, z):
        x = self.upsamples(self.middle(self.conv1(z)))
        return self.head["2"](self.head["0"](x))


class VAE(nn.Module):
    def __init__(self, dim, multipliers=MULTIPLIERS):
        super().__init__()
        multipliers = tuple(multipliers)
        self.encoder, self.decoder = Encoder(dim, multipliers), Decoder(dim, multipliers)
        self.conv1, self.conv2 = CausalConv3d(2 * Z, 2 * Z, 1), CausalConv3d(Z, Z, 1)

    def encode(self, video):
        """-> the posterior's mean, raw (before the engine's normalisation)."""
        return self.conv1(self.encoder(video))[:, :Z]

    def decode(self, latent):
        return self.decoder(self.conv2(latent))


def channels_last(model):
    for m in model.modules():
        if isinstance(m, nn.Conv3d):
            m.to(memory_format=torch.channels_last_3d)
        elif isinstance(m, nn.Conv2d):
            m.to(memory_format=torch.channels_last)
    return model


def fold_statistics(state, mean, std):
    """A state dict whose raw latents have Wan's published statistics, so that the engine's normalisation makes them unit.

    mean, std [16]: of this VAE's own raw latents. Decoding undoes it: the pictures stay the same."""
    out = {k: v.clone().float() for k, v in state.items()}
    to, shift = torch.tensor(WAN_STD) / std, torch.tensor(WAN_MEAN)
    column = (slice(None), None, None, None, None)
    out["conv1.weight"][:Z] *= to[column]
    out["conv1.bias"][:Z] = (out["conv1.bias"][:Z] - mean) * to + shift
    weight = out["conv2.weight"].clone()
    out["conv2.weight"] = weight / to[None, :, None, None, None]
    out["conv2.bias"] += (weight[:, :, 0, 0, 0] @ (mean - shift / to))
    return out
