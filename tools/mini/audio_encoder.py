"""wav2vec2 of the large kind (LayerNorm in the extractor, norms before the layers), small, under Hugging Face's tensor names.

audio [B, samples] at 16 kHz, normalised to zero mean and unit variance -> hidden states, layers + 1 of [B, T, width] at 50 Hz.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from dit import fused_attention
from training import part

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
RATE = 16000
HOP_S, CENTRE_S = 0.02, 0.0125  # of hidden states: one every 20 ms; the middle of what the first one hears
CONFIG = dict(hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, conv=32)
POSITION_KERNEL, POSITION_GROUPS = 128, 16


class ConvLayer(nn.Module):
    def __init__(self, fan_in, fan_out, kernel, stride):
        super().__init__()
        self.conv, self.layer_norm = nn.Conv1d(fan_in, fan_out, kernel, stride), nn.LayerNorm(fan_out)

    def forward(self, x):
        """[B, T, C] -> [B, T', C']. As an image of one row, so that channels stay innermost and nothing is copied."""
        row = x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        weight = self.conv.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        y = F.conv2d(row, weight, self.conv.bias, stride=(1, self.conv.stride[0]))
        return F.gelu(self.layer_norm(y.squeeze(2).transpose(1, 2)))


class PositionConv(nn.Module):
    """Weight-normalised along the kernel axis, as torch's weight_norm(dim=2) stores it."""

    def __init__(self, width):
        super().__init__()
        self.weight_v = nn.Parameter(torch.randn(width, width // POSITION_GROUPS, POSITION_KERNEL))
        self.weight_g = nn.Parameter(torch.full((1, 1, POSITION_KERNEL), 0.3))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        return F.gelu(F.conv1d(x, weight, self.bias, padding=POSITION_KERNEL // 2, groups=POSITION_GROUPS)[..., :-1])


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(fused_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.intermediate_dense, self.output_dense = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return self.output_dense(F.gelu(self.intermediate_dense(x)))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.attention = Attention(width, config["num_attention_heads"])
        self.feed_forward = FeedForward(width, config["intermediate_size"])
        self.layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attention(self.layer_norm(x))
        return x + self.feed_forward(self.final_layer_norm(x))


class AudioEncoder(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.config = c = dict(config or CONFIG)
        width, conv = c["hidden_size"], c["conv"]
        self.feature_extractor = nn.ModuleDict({"conv_layers": nn.ModuleList(
            ConvLayer(1 if i == 0 else conv, conv, k, s) for i, (k, s) in enumerate(zip(KERNELS, STRIDES)))})
        self.feature_projection = nn.ModuleDict({"layer_norm": nn.LayerNorm(conv), "projection": nn.Linear(conv, width)})
        self.encoder = nn.ModuleDict({"pos_conv_embed": nn.ModuleDict({"conv": PositionConv(width)}),
                                      "layers": nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"])),
                                      "layer_norm": nn.LayerNorm(width)})

    def forward(self, audio):
        x = audio[..., None]
        for layer in self.feature_extractor["conv_layers"]:
            x = layer(x)
        x = self.feature_projection["projection"](self.feature_projection["layer_norm"](x))
        x = x + self.encoder["pos_conv_embed"]["conv"](x.transpose(1, 2)).transpose(1, 2)
        states = []
        for layer in self.encoder["layers"]:
            states.append(x)
            x = layer(x)
        return states + [self.encoder["layer_norm"](x)]


def normalise(audio):
    """[..., samples] -> zero mean, unit variance over the utterance; silence stays silence."""
    audio = audio - audio.mean(-1, keepdims=True)
    return audio / np.sqrt(audio.var(-1, keepdims=True) + 1e-7)


def columns(states, frames):
    """states [L, T, C] of one voice -> [L, C, frames]: by way of 30 Hz, as the original samples them (model.md)."""
    count_50, count_30 = states.shape[1], int(states.shape[1] / 50 * 30)
    at_30 = F.interpolate(states.transpose(1, 2), size=count_30, mode="linear", align_corners=True)
    source = torch.tensor([round(i / 25 * 30) for i in range(frames)])
    out = at_30[:, :, source.clamp(max=count_30 - 1)]
    out[:, :, source >= count_30] = 0
    assert count_50 > 1
    return out


@torch.no_grad()
def features(model, voices, frames):
    """voices [N, samples] at 16 kHz -> [N, L, C, frames], the DiT's audio input."""
    states = torch.stack(model(torch.from_numpy(normalise(voices.astype(np.float32)))), 1)
    return torch.stack([columns(voice, frames) for voice in states])


def load(path):
    """Of a training's checkpoint."""
    saved = torch.load(path)
    model = AudioEncoder(saved["config"])
    model.load_state_dict(part(saved["average"], "encoder"))
    return model.eval()


def hf_config(config):
    """config.json as Hugging Face writes it."""
    return dict({k: v for k, v in config.items() if k != "conv"}, model_type="wav2vec2", conv_dim=[config["conv"]] * 7,
                conv_kernel=list(KERNELS), conv_stride=list(STRIDES), conv_bias=True, feat_extract_norm="layer",
                do_stable_layer_norm=True, layer_norm_eps=1e-5, num_conv_pos_embeddings=POSITION_KERNEL,
                num_conv_pos_embedding_groups=POSITION_GROUPS)
