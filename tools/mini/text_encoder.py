"""UMT5's encoder, small, under the original's tensor names, with its SentencePiece tokenizer.

T tokens, D width. A prompt's rows [T, D] are what the video model sees.
"""

import math

import sentencepiece
import torch
import torch.nn as nn
import torch.nn.functional as F

from dit import Gain
from training import part

CONFIG = dict(dim=64, heads=4, layers=2, ffn=160, buckets=32)
EXTRA_IDS, MAX_DISTANCE, EOS = 300, 128, 1


def position_buckets(tokens, buckets):
    """-> [T, T] i64, bucket of key minus query: exact when near, logarithmic beyond."""
    distance = torch.arange(tokens)[None] - torch.arange(tokens)[:, None]
    half, far = buckets // 2, distance.abs()
    exact = half // 2
    log = exact + (torch.log(far.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)).long()
    return torch.where(far < exact, far, log.clamp(max=half - 1)) + half * (distance > 0)


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x, bias):
        """QK is not scaled. bias [B or 1, N, T, T]."""
        q, k, v = (f(x).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(((q @ k.transpose(-1, -2) + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))


class GatedFFN(nn.Module):
    def __init__(self, dim, inner):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(dim, inner, bias=False))
        self.fc1, self.fc2 = nn.Linear(dim, inner, bias=False), nn.Linear(inner, dim, bias=False)

    def forward(self, x):
        return self.fc2(self.fc1(x) * F.gelu(self.gate(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = Gain(c["dim"]), Gain(c["dim"])
        self.attn, self.ffn = SelfAttention(c["dim"], c["heads"]), GatedFFN(c["dim"], c["ffn"])
        self.pos_embedding = nn.ModuleDict({"embedding": nn.Embedding(c["buckets"], c["heads"])})
        nn.init.normal_(self.attn.q.weight, std=c["dim"] ** -0.75)  # QK is not scaled

    def forward(self, x, buckets, mask):
        bias = self.pos_embedding["embedding"](buckets).permute(2, 0, 1)[None] + mask
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = c = dict(config)
        self.token_embedding = nn.Embedding(c["vocabulary"], c["dim"])
        self.blocks = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = Gain(c["dim"])

    def forward(self, ids, real):
        """ids [B, T], real [B, T] true at tokens -> rows [B, T, D]."""
        mask = torch.zeros(real.shape).masked_fill(~real, -1e9)[:, None, None]
        x, buckets = self.token_embedding(ids), position_buckets(ids.shape[1], self.config["buckets"])
        for block in self.blocks:
            x = block(x, buckets, mask)
        return self.norm(x)


def pad(lists):
    """Lists of ids -> ids [B, T] i64, real [B, T] bool."""
    ids = torch.zeros(len(lists), max(map(len, lists)), dtype=torch.long)
    real = torch.zeros(ids.shape, dtype=torch.bool)
    for i, part in enumerate(lists):
        ids[i, :len(part)], real[i, :len(part)] = torch.tensor(part), True
    return ids, real


class Prompts:
    """Texts to rows, as the engine does it."""

    def __init__(self, model, pieces):
        self.model, self.pieces = model, pieces

    def ids(self, text):
        return self.pieces.encode(" ".join(text.split())) + [EOS]

    @torch.no_grad()
    def encode(self, texts):
        """-> for each text its rows [tokens, D] f32."""
        ids, real = pad([self.ids(text) for text in texts])
        return [rows[mask] for rows, mask in zip(self.model(ids, real), real)]


def load(checkpoint, tokenizer):
    saved = torch.load(checkpoint)
    model = TextEncoder(saved["config"])
    model.load_state_dict(part(saved["average"], "encoder"))
    return Prompts(model.eval(), sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)))
