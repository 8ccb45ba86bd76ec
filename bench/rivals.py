"""The engine's models in PyTorch, written to be fast: what compare_pytorch.py compares with.

Weights have a checkpoint's names. Where another form is faster (one matrix for q, k and v, a folded weight norm), it is
made once and not timed. PyTorch 1.13 is enough to check the numbers; the times need a new version.
"""

import math
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools/mini"))

import audio_encoder  # noqa: E402
import dit  # noqa: E402
import vae  # noqa: E402

EPS = 1e-6
START = 15  # the block of latents 15..17, with a KV cache of 12, as in compare_side.cc


def plain_attention(q, k, v, attn_mask=None, scale=None):
    scores = q * (q.shape[-1] ** -0.5 if scale is None else scale) @ k.transpose(-1, -2)
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v


attention = getattr(F, "scaled_dot_product_attention", plain_attention)


def rms_norm(x, gain, eps=EPS):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * gain).to(x.dtype)


def rope_complex(x, cos, sin):
    """x [T, N, d]. Three passes over memory; the compiler does not support complex numbers."""
    rotated = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * torch.complex(cos, sin)
    return torch.view_as_real(rotated).flatten(-2).to(x.dtype)


def rope_real(x, cos, sin):
    return dit.rope(x.float(), (cos, sin)).to(x.dtype)


def linear(weights, *names, dtype):
    """One layer with the outputs of all named layers, in order."""
    weight = torch.cat([weights[name + ".weight"] for name in names])
    m = nn.Linear(weight.shape[1], weight.shape[0], names[0] + ".bias" in weights, dtype=dtype)
    m.weight.data = weight.to(dtype)
    if m.bias is not None:
        m.bias.data = torch.cat([weights[name + ".bias"] for name in names]).to(dtype)
    return m.requires_grad_(False)


class DitLayer(nn.Module):
    """Self-attention to a full KV cache and the sink, cross-attention to the prompt, FFN, modulation, rounded as in the
    original: matrices and their inputs in `dtype`, the residual stream and modulation in f32.

    Keys after RoPE of KV cache and sink are in one tensor. RoPE is applied to the sink in every forward: its position moves."""

    rope = staticmethod(rope_complex)

    def __init__(self, weights, config, inputs, dtype):
        super().__init__()
        self.heads, self.dtype = config["num_heads"], dtype
        w = {k[len("blocks.0."):]: v for k, v in weights.items() if k.startswith("blocks.0.")}
        self.qkv, self.o = linear(w, "self_attn.q", "self_attn.k", "self_attn.v", dtype=dtype), linear(w, "self_attn.o", dtype=dtype)
        self.cross_q, self.cross_o = linear(w, "cross_attn.q", dtype=dtype), linear(w, "cross_attn.o", dtype=dtype)
        self.up, self.down = linear(w, "ffn.0", dtype=dtype), linear(w, "ffn.2", dtype=dtype)
        for name in ("self_attn.norm_q", "self_attn.norm_k", "cross_attn.norm_q"):
            self.register_buffer(name.replace(".", "_"), w[name + ".weight"].float())
        self.register_buffer("norm3_weight", w["norm3.weight"].float())
        self.register_buffer("norm3_bias", w["norm3.bias"].float())
        self.register_buffer("modulation", w["modulation"][0].float())
        prompt = inputs["prompt"].to(dtype)  # its keys and values: once a prompt
        k = rms_norm(linear(w, "cross_attn.k", dtype=dtype)(prompt), w["cross_attn.norm_k.weight"].float())
        self.text = self.split(k).contiguous(), self.split(linear(w, "cross_attn.v", dtype=dtype)(prompt)).contiguous()
        self.make_cache(inputs)

    def make_cache(self, inputs):
        height, width = inputs["latents"].shape[-2:]
        positions = dit.Positions(self.qkv.in_features // self.heads, height, width)
        self.rope_table, self.sink_rope_table = positions.noisy(START, 3), positions.sink(START, 30)
        self.sink_k = inputs["sink_k"].to(self.dtype).unflatten(-1, (self.heads, -1))
        together = lambda name: self.split(torch.cat([inputs["cache_" + name], inputs["sink_" + name]]).to(self.dtype)).contiguous()
        self.k, self.v = together("k"), together("v")
        self.tokens, self.cache_tokens = len(inputs["x"]), len(inputs["cache_k"])
        self.slot = START % 12 * (self.tokens // 3)

    def split(self, x):  # [T, D] -> [1, N, T, d]
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]

    def attend(self, q, k, v):
        return attention(q, k, v)[0].transpose(0, 1).flatten(1)

    def layer_norm(self, x, scale, shift):
        return F.layer_norm(x, x.shape[-1:], scale, shift, EPS).to(self.dtype)

    def normed_rope(self, x, gain, table):
        return self.rope(rms_norm(x, gain).unflatten(-1, (self.heads, -1)), *table).transpose(0, 1)

    def forward(self, x, e0, sink_k, keys, values):
        """x [T, D] f32, e0 [6, D]; keys and values [1, N, cache + sink, d] are written to; sink_k before RoPE."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + e0).unbind(0)
        q, k, v = self.qkv(self.layer_norm(x, 1 + scale1, shift1)).chunk(3, -1)
        own = slice(self.slot, self.slot + self.tokens)
        keys[0, :, own] = self.normed_rope(k, self.self_attn_norm_k, self.rope_table)
        values[0, :, own] = v.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        keys[0, :, self.cache_tokens:] = self.rope(sink_k, *self.sink_rope_table).transpose(0, 1)
        q = self.normed_rope(q, self.self_attn_norm_q, self.rope_table)[None]
        x = x + gate1 * self.o(self.attend(q, keys, values))
        q = rms_norm(self.cross_q(self.layer_norm(x, self.norm3_weight, self.norm3_bias)), self.cross_attn_norm_q)
        x = x + self.cross_o(self.attend(self.split(q), *self.text))
        hidden = F.gelu(self.up(self.layer_norm(x, 1 + scale2, shift2)), approximate="tanh")
        return x + gate2 * self.down(hidden)


class VaeDecoder(nn.Module):
    """The Wan decoder as a stream, some latents at a time. Each causal convolution has a cache of its last two input frames.
    The caches are passed in and returned as a list of tensors, so that a step can be compiled as a whole."""

    def __init__(self, weights, dim, dtype, channels_last):
        super().__init__()
        self.model = vae.VAE(dim)
        self.model.load_state_dict({k: v.float() for k, v in weights.items()})
        self.model.requires_grad_(False).to(dtype)
        if channels_last:
            vae.channels_last(self.model)
        self.dtype, self.format = dtype, torch.channels_last_3d if channels_last else torch.contiguous_format
        self.channels_last = channels_last
        self.register_buffer("mean", torch.tensor(vae.WAN_MEAN).reshape(1, -1, 1, 1, 1))
        self.register_buffer("std", torch.tensor(vae.WAN_STD).reshape(1, -1, 1, 1, 1))

    def norm(self, m, x):
        gamma = m.gamma.flatten()
        if self.channels_last:
            if hasattr(F, "rms_norm"):
                y = F.rms_norm(x.movedim(1, -1), gamma.shape, gamma, 1e-12).movedim(-1, 1)
            else:
                y = rms_norm(x.movedim(1, -1), gamma, 1e-12).movedim(-1, 1)
        else:
            y = F.normalize(x, dim=1) * (gamma * math.sqrt(len(gamma))).reshape(-1, *[1] * (x.dim() - 2))
        return F.silu(y) if m.act else y

    def causal(self, m, x):
        """Frames before the first are zeros."""
        before = self.before.pop(0) if self.before else x.new_zeros(*x.shape[:2], 2, *x.shape[3:])
        seen = torch.cat([before, x], 2)
        self.after.append(seen[:, :, -2:])
        return F.conv3d(seen, m.weight, m.bias, padding=m.padding)

    def residual(self, m, x):
        r = m.residual
        y = self.causal(r["6"], self.norm(r["3"], self.causal(r["2"], self.norm(r["0"], x))))
        return y + (F.conv3d(x, m.shortcut.weight, m.shortcut.bias) if hasattr(m, "shortcut") else x)

    def attend(self, m, x):
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).flatten(0, 1)
        qkv = F.conv2d(self.norm(m.norm, frames), m.to_qkv.weight, m.to_qkv.bias)
        q, k, v = qkv.flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
        y = attention(q, k, v)[:, 0].transpose(1, 2).reshape(t, c, h, w)
        return x + F.conv2d(y, m.proj.weight, m.proj.bias).unflatten(0, (b, t)).transpose(1, 2)

    def upsample(self, m, x, first):
        """The very first latent does not enter the time convolution, and is not in its cache for the second."""
        b, c, t, h, w = x.shape
        if hasattr(m, "time_conv") and first:
            self.after.append(x.new_zeros(b, c, 2, h, w))
        elif hasattr(m, "time_conv"):
            y = self.causal(m.time_conv, x)
            x = y.unflatten(1, (2, c)).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)
        frames = F.interpolate(x.transpose(1, 2).flatten(0, 1), scale_factor=2.0, mode="nearest")
        conv = m.resample["1"]
        return F.conv2d(frames, conv.weight, conv.bias, padding=1).unflatten(0, (b, -1)).transpose(1, 2)

    def forward(self, z, before, first):
        """z [1, 16, L, h, w] -> frames [4 L, H, W, 3] (of the very first latent: one) and the caches for the next step."""
        self.before, self.after = list(before), []
        z = (z * self.std + self.mean).to(self.dtype).contiguous(memory_format=self.format)
        d = self.model.decoder
        x = self.causal(d.conv1, F.conv3d(z, self.model.conv2.weight, self.model.conv2.bias))
        for i, m in enumerate(d.middle):
            x = self.attend(m, x) if i == 1 else self.residual(m, x)
        for m in d.upsamples:
            x = self.upsample(m, x, first) if hasattr(m, "resample") else self.residual(m, x)
        x = self.causal(d.head["2"], self.norm(d.head["0"], x))
        return x.float().clamp(-1, 1)[0].permute(1, 2, 3, 0).contiguous(), self.after


class AudioEncoder(audio_encoder.AudioEncoder):
    """With the position convolution's weight folded, and all states in one tensor."""

    def __init__(self, weights, config, dtype):
        super().__init__(config)
        self.load_state_dict(weights)
        position = self.encoder["pos_conv_embed"]["conv"]
        v = position.weight_v.detach()
        self.position = (position.weight_g.detach() * v / v.norm(dim=(0, 1), keepdim=True)).to(dtype)
        self.requires_grad_(False).to(dtype)

    def embed_positions(self, x):  # [1, T, C]
        conv = self.encoder["pos_conv_embed"]["conv"]
        half, groups = self.position.shape[-1] // 2, audio_encoder.POSITION_GROUPS
        y = F.conv1d(x.transpose(1, 2), self.position, conv.bias, padding=half, groups=groups)
        return x + F.gelu(y[..., :-1]).transpose(1, 2)

    def forward(self, audio):
        x = audio.to(self.position.dtype)[None, :, None]
        for layer in self.feature_extractor["conv_layers"]:
            x = layer(x)
        x = self.feature_projection["projection"](self.feature_projection["layer_norm"](x))
        x, states = self.embed_positions(x), []
        for layer in self.encoder["layers"]:
            states.append(x)
            x = layer(x)
        return torch.cat(states + [self.encoder["layer_norm"](x)])


def position_buckets(tokens, buckets, far=128):
    """[T, T], bucket of key minus query: exact if near, else logarithmic."""
    distance = torch.arange(tokens)[None] - torch.arange(tokens)[:, None]
    half, exact = buckets // 2, buckets // 4
    log = exact + (torch.log(distance.abs().clamp(min=1) / exact) / math.log(far / exact) * (half - exact)).long()
    return torch.where(distance.abs() < exact, distance.abs(), log.clamp(max=half - 1)) + half * (distance > 0)


class TextEncoder(nn.Module):
    def __init__(self, weights, config, dtype):
        super().__init__()
        self.heads, self.dtype = config["heads"], dtype
        self.register_buffer("embedding", weights["token_embedding.weight"].to(dtype))
        self.register_buffer("norm", weights["norm.weight"].float())
        self.register_buffer("buckets", position_buckets(config["tokens"], config["buckets"]))
        self.layers = nn.ModuleList(self.make_layer(weights, f"blocks.{i}.") for i in range(config["layers"]))

    def make_layer(self, weights, name):
        m, pick = nn.Module(), lambda *names: linear(weights, *(name + n for n in names), dtype=self.dtype)
        m.qkv, m.o = pick("attn.q", "attn.k", "attn.v"), pick("attn.o")
        m.gated, m.down = pick("ffn.gate.0", "ffn.fc1"), pick("ffn.fc2")
        m.register_buffer("norm1", weights[name + "norm1.weight"].float())
        m.register_buffer("norm2", weights[name + "norm2.weight"].float())
        m.register_buffer("positions", weights[name + "pos_embedding.embedding.weight"].T.contiguous().to(self.dtype))  # [N, buckets]
        return m

    def layer(self, m, x, buckets):
        """x [T, D] f32; QK is not scaled."""
        y = rms_norm(x, m.norm1).to(self.dtype)
        q, k, v = m.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)[:, None].unbind(0)
        y = attention(q, k, v, attn_mask=m.positions[:, buckets][None], scale=1.0)[0].transpose(0, 1).flatten(1)
        x = x + m.o(y)
        gate, up = m.gated(rms_norm(x, m.norm2).to(self.dtype)).chunk(2, -1)
        return x + m.down(F.gelu(gate, approximate="tanh") * up)

    def forward(self, ids):
        x = F.embedding(ids, self.embedding).float()
        buckets = self.buckets[:len(ids), :len(ids)]
        for m in self.layers:
            x = self.layer(m, x, buckets)
        return rms_norm(x, self.norm)
