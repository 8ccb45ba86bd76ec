"""The causal S2V DiT under the original's tensor names, in the form that trains: all blocks of a clip at once, each seeing
just what is in the engine's KV cache and sink. The same code samples block by block with a KV cache.

B clips, F latents, D width, N heads, n = h * w patches a latent, C audio width. Facts: docs/architecture.md and the paper, section 3.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

BLOCK, WINDOW = 3, 4  # latents a block, blocks in the KV cache
Z, MOTION_LATENTS, NEUTRAL_DISTANCE = 16, 19, 17
CONFIG = dict(dim=192, num_heads=4, num_layers=6, ffn_dim=768, freq_dim=256, text_dim=64, text_len=64, audio_dim=96, num_audio_token=4,
              num_audio_layers=5, audio_inject_layers=[0, 1, 2, 3, 4])


def modulate(x, shift, scale, eps=1e-6):
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], None, None, eps), 1 + scale)


def rope(x, rotation):
    """x [B, tokens, N, d], adjacent pairs rotated by rotation (cos, sin), each [tokens, 1, d/2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotation
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def plain_attention(q, k, v):
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v


# Debian 12 has PyTorch 1.13, enough to try things; it lacks the fused one.
fused_attention = getattr(F, "scaled_dot_product_attention", plain_attention)


def attend(q, k, v):
    """q [B, T, N, d], k and v [B, K, N, d] -> [B, T, D]."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return fused_attention(q, k, v).transpose(1, 2).flatten(2)


class Gain(nn.Module):
    """RMS norm over the whole width."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = Gain(dim), Gain(dim)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1))

    def query(self, x):
        return self.split(self.norm_q(self.q(x)))

    def key_value(self, context):
        """Before any rotation."""
        return self.split(self.norm_k(self.k(context))), self.split(self.v(context))

    def cross(self, x, context):
        return self.o(attend(self.query(x), *self.key_value(context)))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim = c["dim"]
        self.self_attn, self.cross_attn = Attention(dim, c["num_heads"]), Attention(dim, c["num_heads"])
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = nn.Sequential(nn.Linear(dim, c["ffn_dim"]), nn.GELU("tanh"), nn.Linear(c["ffn_dim"], dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        nn.init.zeros_(self.cross_attn.o.weight)

    def forward(self, x, e0, text, self_attention):
        """x [B, T, D], e0 [B, 6, D]; self_attention: normed x -> attended."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + e0)[:, :, None].unbind(1)
        x = torch.addcmul(x, gate1, self.self_attn.o(self_attention(modulate(x, shift1, scale1))))
        x = x + self.cross_attn.cross(self.norm3(x), text)
        return torch.addcmul(x, gate2, self.ffn(modulate(x, shift2, scale2)))


class Causal1d(nn.Module):
    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        self.conv = nn.Conv1d(fan_in, fan_out, 3, stride=stride)

    def forward(self, x):
        return self.conv(F.pad(x, (2, 0), mode="replicate"))


class AudioTokens(nn.Module):
    """features [B, L, C, 12 columns] of a block -> global [B, 3, D], local [B, 3, 5, D]."""

    def __init__(self, c):
        super().__init__()
        dim, self.tokens = c["dim"], c["num_audio_token"]
        self.weights = nn.Parameter(torch.ones(1, c["num_audio_layers"], 1, 1))
        self.encoder = nn.ModuleDict({
            "conv1_local": Causal1d(c["audio_dim"], dim // 4 * self.tokens, 1), "conv1_global": Causal1d(c["audio_dim"], dim // 4, 1),
            "conv2": Causal1d(dim // 4, dim // 2, 2), "conv3": Causal1d(dim // 2, dim, 2), "final_linear": nn.Linear(dim, dim)})
        self.encoder.padding_tokens = nn.Parameter(torch.randn(1, 1, 1, dim) * 0.02)

    def _tail(self, x):
        act = lambda y: F.silu(F.layer_norm(y.transpose(1, 2), y.shape[1:2])).transpose(1, 2)
        y = act(self.encoder["conv3"](act(self.encoder["conv2"](act(x)))))
        return y[..., -BLOCK:].transpose(1, 2)

    def forward(self, features):
        share = F.silu(self.weights)
        x = (features * (share / share.sum(1, keepdim=True))).sum(1)
        x = torch.cat([x[..., :1].expand(-1, -1, 9), x], -1)  # 9 repeats give what the engine's 73 give: the field is 9 columns
        local = self.encoder["conv1_local"](x)
        local = self._tail(local.reshape(len(x) * self.tokens, -1, local.shape[-1])).unflatten(0, (-1, self.tokens)).transpose(1, 2)
        padding = self.encoder.padding_tokens.expand(len(x), BLOCK, 1, -1)
        return self.encoder["final_linear"](self._tail(self.encoder["conv1_global"](x))), torch.cat([local, padding], 2)


class Injector(nn.Module):
    def __init__(self, c):
        super().__init__()
        dim, count = c["dim"], len(c["audio_inject_layers"])
        self.injector = nn.ModuleList(Attention(dim, c["num_heads"]) for _ in range(count))
        self.injector_adain_layers = nn.ModuleList(nn.ModuleDict({"linear": nn.Linear(dim, 2 * dim)}) for _ in range(count))
        for a in self.injector:
            nn.init.zeros_(a.o.weight)

    def forward(self, j, x, world, local):
        """x [B, F * n, D], world [B * F, D], local [B * F, 5, D]."""
        shift, scale = self.injector_adain_layers[j]["linear"](F.silu(world)).chunk(2, -1)
        y = x.reshape(len(world), -1, x.shape[-1])
        return x + self.injector[j].cross(modulate(y, shift[:, None], scale[:, None], 1e-5), local).reshape(x.shape)


class Head(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.head, self.modulation = nn.Linear(dim, 4 * Z), nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x, e):
        shift, scale = (self.modulation + e[:, None]).unbind(1)
        return self.head(modulate(x, shift[:, None], scale[:, None]))


class Positions:
    """Rotations (cos, sin), each [tokens, 1, d/2], of an H x W latent (H, W even)."""

    def __init__(self, head_dim, height, width):
        pairs = head_dim // 2
        self.pairs = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
        self.height, self.width = height, width

    def rotation(self, frames, rows, columns):
        grid = torch.meshgrid(*(torch.as_tensor(p, dtype=torch.float64) for p in (frames, rows, columns)), indexing="ij")
        angle = torch.cat([p.reshape(-1, 1) * 10000.0 ** (-torch.arange(c, dtype=torch.float64) / c) for p, c in zip(grid, self.pairs)], 1)
        return angle.cos().float()[:, None], angle.sin().float()[:, None]

    def noisy(self, start, count):
        return self.rotation(range(start, start + count), range(self.height // 2), range(self.width // 2))

    def cond(self, shift):
        """The reference moves with the sink, the three motion buckets stay."""
        spread = lambda last, count: torch.linspace(0, last // 2 - 1, count, dtype=torch.float64).floor() if count > 1 else torch.zeros(1)
        parts = [self.rotation([frame], range(self.height // 2), range(self.width // 2)) for frame in (30 + shift, -1)]
        for frames, k in (([-3], 4), ([-19, -14, -9, -4], 8)):
            parts.append(self.rotation(frames, spread(self.height, self.height // k), spread(self.width, self.width // k)))
        return tuple(torch.cat(p) for p in zip(*parts))

    def sink(self, start, distance):
        """Of the cond tokens for the block that starts at latent `start`."""
        return self.cond(max(0, start - (30 - distance)))


class DiT(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.config = c = dict(config or CONFIG)
        dim = c["dim"]
        patch = lambda k: nn.Conv3d(Z, dim, k, k)
        self.patch_embedding, self.cond_encoder = patch((1, 2, 2)), patch((1, 2, 2))
        self.frame_packer = nn.ModuleDict({"proj": patch((1, 2, 2)), "proj_2x": patch((2, 4, 4)), "proj_4x": patch((4, 8, 8))})
        self.trainable_cond_mask = nn.Embedding(3, dim)
        nn.init.normal_(self.trainable_cond_mask.weight, std=0.02)
        nn.init.zeros_(self.cond_encoder.weight)
        self.text_embedding = nn.Sequential(nn.Linear(c["text_dim"], dim), nn.GELU("tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(c["freq_dim"], dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_layers"]))
        self.casual_audio_encoder, self.audio_injector, self.head = AudioTokens(c), Injector(c), Head(dim)

    def positions(self, height, width):
        return Positions(self.config["dim"] // self.config["num_heads"], height, width)

    def time(self, t):
        """t [B] in 0..1000 -> e [B, D], e0 [B, 6, D]."""
        half = self.config["freq_dim"] // 2
        angle = t[:, None] * 10000.0 ** (-torch.arange(half) / half)
        e = self.time_embedding(torch.cat([angle.cos(), angle.sin()], 1))
        return e, self.time_projection(e).unflatten(-1, (6, -1))

    def text(self, rows):
        """rows [B, text_len, text_dim], zeros behind the prompt's -> [B, text_len, D]."""
        return self.text_embedding(rows)

    def prefill(self, reference, motion, text, positions):
        """reference [B, Z, 1, H, W], motion [B, Z, 19, H, W], text from text() -> per layer K (unrotated) and V of the cond tokens."""
        flat = lambda m, y: m(y).flatten(2).transpose(1, 2)
        pack, kind = self.frame_packer, self.trainable_cond_mask.weight
        x = torch.cat([flat(self.patch_embedding, reference) + kind[1], flat(pack["proj"], motion[:, :, -1:]) + kind[2],
                       flat(pack["proj_2x"], motion[:, :, -3:-1]) + kind[2], flat(pack["proj_4x"], motion[:, :, :16]) + kind[2]], 1)
        _, e0 = self.time(torch.zeros(len(x)))
        rotation, out = positions.cond(0), []
        for block in self.blocks:
            def self_attention(y):
                k, v = block.self_attn.key_value(y)
                out.append((k, v))
                return attend(rope(block.self_attn.query(y), rotation), rope(k, rotation), v)

            x = block(x, e0, text, self_attention)
        return out

    def forward(self, x, t, cond, text, features, positions, start, distance=NEUTRAL_DISTANCE, kv_cache=None):
        """Noisy latents x [B, Z, F, H, W] (F whole blocks) at t [B], features [B, L, C, 4 F] -> velocity like x.

        start: absolute latent of x's first frame. kv_cache: per layer a list of earlier blocks' (rotated K, V) at this noise level; it grows."""
        b, _, frames, height, width = x.shape
        blocks, tokens = frames // BLOCK, BLOCK * (height // 2) * (width // 2)
        x = self.patch_embedding(x).flatten(2).transpose(1, 2) + (self.cond_encoder.bias + self.trainable_cond_mask.weight[0])
        e, e0 = self.time(t)
        columns = features.unflatten(-1, (blocks, 4 * BLOCK)).permute(0, 3, 1, 2, 4).flatten(0, 1)
        world, local = (y.flatten(0, 1) for y in self.casual_audio_encoder(columns))
        rotation = positions.noisy(start, frames)
        sinks = [positions.sink(start + BLOCK * j, distance) for j in range(blocks)]
        for i, block in enumerate(self.blocks):
            def self_attention(y):
                q, (k, v) = rope(block.self_attn.query(y), rotation), block.self_attn.key_value(y)
                own = list(zip(rope(k, rotation).split(tokens, 1), v.split(tokens, 1)))
                past = kv_cache[i] if kv_cache is not None else []
                if kv_cache is not None:
                    kv_cache[i] = (past + own)[1 - WINDOW:]
                out = []
                for j, part in enumerate(q.split(tokens, 1)):
                    seen = (past + own[:j + 1])[-WINDOW:] + [(rope(cond[i][0], sinks[j]), cond[i][1])]
                    out.append(attend(part, *(torch.cat(kv, 1) for kv in zip(*seen))))
                return torch.cat(out, 1)

            x = block(x, e0, text, self_attention)
            if i in self.config["audio_inject_layers"]:
                x = self.audio_injector(self.config["audio_inject_layers"].index(i), x, world, local)
        y = self.head(x, e).reshape(b, frames, height // 2, width // 2, 2, 2, Z)
        return y.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, Z, frames, height, width)


def schedule(steps, shift=3.0):
    """Sigmas of the engine: the shifted table's ends, evenly spaced, shifted once more, then 0."""
    shifted = lambda s: shift * s / (1 + (shift - 1) * s)
    even = torch.linspace(shifted(1.0), shifted(0.001), steps, dtype=torch.float64)
    return torch.cat([shifted(even), torch.zeros(1)]).float()


@torch.no_grad()
def sample(model, reference, motion, text_rows, features, steps=4, start=0, generator=None):
    """-> latents [B, Z, F, H, W] for features [B, L, C, 4 F], block after block with a KV cache for each step."""
    positions, text = model.positions(*reference.shape[-2:]), model.text(text_rows)
    sigmas, cond = schedule(steps), model.prefill(reference, motion, text, positions)
    kv_caches, out = [[[] for _ in model.blocks] for _ in range(steps)], []
    for f in range(0, features.shape[-1] // 4, BLOCK):
        x = torch.randn(len(reference), Z, BLOCK, *reference.shape[-2:], generator=generator)
        for j in range(steps):
            t = torch.full((len(x),), float(sigmas[j] * 1000))
            v = model(x, t, cond, text, features[..., 4 * f:4 * (f + BLOCK)], positions, start + f, kv_cache=kv_caches[j])
            x = x + (sigmas[j + 1] - sigmas[j]) * v
        out.append(x)
    return torch.cat(out, 2)


def block_gflop(c, side, steps=4):
    """Of one block of 12 frames at side x side pixels, all steps."""
    n, dim = (side // 16) ** 2, c["dim"]
    tokens, keys = BLOCK * n, WINDOW * BLOCK * n + 2 * n + n // 2
    layer = 2 * tokens * (6 * dim**2 + 2 * dim * c["ffn_dim"]) + 4 * tokens * dim * (keys + c["text_len"])
    audio = 4 * tokens * dim**2 + 4 * tokens * dim * 5 + 3 * 2 * 12 * dim**2
    return steps * (c["num_layers"] * layer + len(c["audio_inject_layers"]) * audio) / 1e9
