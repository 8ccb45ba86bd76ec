#!/usr/bin/env python3
"""torch_side.py rates|layers [--device cuda] [--tiny]: the work of gpu_check's steps of these names, by PyTorch.

Prints "figure NAME/VARIANT VALUE UNIT": NAME is gpu_check's for the same work, VARIANT one of PyTorch's ways to do it.
What this PyTorch cannot do is a line of text. --tiny: the shapes of the emulated card, on the CPU, to try it.
"""
import argparse
import time

import torch
import torch.nn.functional as F

BF16 = torch.bfloat16
EPS = 1e-6


def plain_attention(q, k, v):
    """PyTorch 1 has no fused one; enough to try this file."""
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


attention = getattr(F, "scaled_dot_product_attention", plain_attention)


class Shapes:
    """Those of rates.cc and layer.cc; layers: width, height and the layer's width, heads and FFN."""

    def __init__(self, tiny):
        self.tokens, self.keys, self.dim, self.ffn, self.heads = 3168, 15312, 5120, 13824, 40
        self.rows, self.columns, self.channels = 384, 704, 96
        self.sizes, self.layer = [(704, 384), (384, 256)], (5120, 40, 13824)
        if tiny:
            self.tokens, self.keys, self.dim, self.ffn, self.heads = 40, 70, 256, 320, 2
            self.rows, self.columns, self.channels = 8, 12, 16
            self.sizes, self.layer = [(64, 64)], (192, 4, 768)


class Clock:
    def __init__(self, device):
        self.device = device

    def wait(self):
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    def seconds_per_call(self, call):
        """As in measure.cc. The first calls also choose algorithms and compile."""
        for _ in range(3):
            call()
        self.wait()
        calls = 1
        while True:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            self.wait()
            seconds = time.perf_counter() - start
            if seconds >= 0.2:
                return seconds / calls
            calls *= 2

    def figure(self, name, call, flops=None):
        """A rate if `flops` is given, else a time. A variant that fails is told and costs itself alone."""
        try:
            seconds = self.seconds_per_call(call)
        except Exception as error:  # whatever this PyTorch, its compiler or the card's memory does not do
            print(f"{name}: {type(error).__name__}: {(str(error).splitlines() or ['no text'])[0]}", flush=True)
            return
        value = f"{seconds * 1e3:.6g} ms" if flops is None else f"{flops / seconds / 1e12:.6g} Tflop/s"
        print(f"figure {name} {value}", flush=True)


def noise(device, *shape, dtype=BF16):
    return torch.randn(*shape, device=device, dtype=torch.float32).to(dtype)


def measure_linear(clock, tokens, n, k):
    x, weight = noise(clock.device, tokens, k), noise(clock.device, n, k)
    clock.figure(f"linear.BF16.BF16.{tokens}x{n}x{k}/eager", lambda: F.linear(x, weight), 2 * tokens * n * k)


def by_heads(x, heads):
    """[T, D] -> [1, heads, T, d]"""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)[None]


def measure_attention(clock, s):
    q, k, v = (by_heads(noise(clock.device, length, s.dim), s.heads) for length in (s.tokens, s.keys, s.keys))
    flops = 4 * s.tokens * s.keys * s.dim
    clock.figure("attention.BF16/default", lambda: attention(q, k, v), flops)

    def by_cudnn():
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            attention(q, k, v)

    if clock.device != "cpu":
        clock.figure("attention.BF16/cudnn", by_cudnn, flops)


def measure_conv(clock, channels, rows, columns):
    """Causal: four frames behind two that are kept from before."""
    flops = 2 * 4 * rows * columns * channels * channels * 27
    for variant, layout in (("channels_last", torch.channels_last_3d), ("channels_first", torch.contiguous_format)):
        x = noise(clock.device, 1, channels, 6, rows, columns).contiguous(memory_format=layout)
        weight = noise(clock.device, channels, channels, 3, 3, 3).contiguous(memory_format=layout)
        clock.figure(f"conv.BF16.{channels}/{variant}", lambda: F.conv3d(x, weight, padding=(0, 1, 1)), flops)


def measure_rates(clock, s):
    measure_linear(clock, s.tokens, s.ffn, s.dim)
    measure_linear(clock, s.tokens, s.dim, s.ffn)
    measure_attention(clock, s)
    for factor in (1, 2, 4):
        measure_conv(clock, s.channels * factor, s.rows // factor, s.columns // factor)


def rms_norm(x, gain):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + EPS) * gain).to(x.dtype)


def rope_complex(x, table):
    """x [T, N, d], table [T, 1, d / 2, 2]: three passes over memory, but the compiler does not know complex numbers."""
    rotated = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * torch.view_as_complex(table)
    return torch.view_as_real(rotated).flatten(-2).to(x.dtype)


def rope_real(x, table):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table.unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


class Layer(torch.nn.Module):
    """Self-attention to a full KV cache and the sink, cross-attention to the prompt, FFN, modulation. In bf16, with the
    residual stream and modulation in f32; as in bench/rivals.py, whose numbers are compared with the engine's."""

    def __init__(self, device, config, size, rope):
        super().__init__()
        self.heads, self.rope = config[1], rope
        width, height = size[0] // 8, size[1] // 8  # of the latents
        frame = width * height // 4
        self.tokens, self.cache_tokens = 3 * frame, 12 * frame
        sink = 2 * frame + (width // 4) * (height // 4) + 4 * (width // 8) * (height // 8)
        self.make_weights(device, config[0], config[2])
        self.make_state(device, config[0], sink)

    def make_weights(self, device, dim, ffn):
        def linear(n, k):
            return noise(device, n, k) * k**-0.5, noise(device, n) * 0.02

        self.qkv, self.o = linear(3 * dim, dim), linear(dim, dim)
        self.cross_q, self.cross_o = linear(dim, dim), linear(dim, dim)
        self.up, self.down = linear(ffn, dim), linear(dim, ffn)
        gains = [1 + 0.05 * noise(device, dim, dtype=torch.float32) for _ in range(4)]
        self.norm_q, self.norm_k, self.cross_norm_q, self.norm3 = gains
        self.norm3_bias = noise(device, dim, dtype=torch.float32) * 0.02
        self.modulation = noise(device, 6, dim, dtype=torch.float32) * 0.1

    def make_state(self, device, dim, sink):
        f32 = torch.float32
        self.x = noise(device, self.tokens, dim, dtype=f32)
        self.e0 = noise(device, 6, dim, dtype=f32) * 0.5
        keys, text = self.cache_tokens + sink, 512
        # Contiguous by heads, as the kernels like it best.
        self.k, self.v = (by_heads(noise(device, keys, dim), self.heads).contiguous() for _ in range(2))
        self.text_k, self.text_v = (by_heads(noise(device, text, dim), self.heads).contiguous() for _ in range(2))
        self.sink_k = noise(device, sink, dim).unflatten(-1, (self.heads, -1))
        angles = [noise(device, count, 1, dim // self.heads // 2, dtype=f32) for count in (self.tokens, sink)]
        self.table, self.sink_table = (torch.stack([a.cos(), a.sin()], -1) for a in angles)

    def attend(self, q, k, v):
        return attention(q, k, v)[0].transpose(0, 1).flatten(1)

    def layer_norm(self, x, scale, shift):
        return F.layer_norm(x, x.shape[-1:], scale, shift, EPS).to(BF16)

    def normed_rope(self, x, gain):
        return self.rope(rms_norm(x, gain).unflatten(-1, (self.heads, -1)), self.table).transpose(0, 1)

    def forward(self, x, e0):
        """x [T, D] and e0 [6, D] f32."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + e0).unbind(0)
        q, k, v = F.linear(self.layer_norm(x, 1 + scale1, shift1), *self.qkv).chunk(3, -1)
        self.k[0, :, : self.tokens] = self.normed_rope(k, self.norm_k)
        self.v[0, :, : self.tokens] = v.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        self.k[0, :, self.cache_tokens :] = self.rope(self.sink_k, self.sink_table).transpose(0, 1)
        q = self.normed_rope(q, self.norm_q)[None]
        x = x + gate1 * F.linear(self.attend(q, self.k, self.v), *self.o)
        q = rms_norm(F.linear(self.layer_norm(x, self.norm3, self.norm3_bias), *self.cross_q), self.cross_norm_q)
        x = x + F.linear(self.attend(by_heads(q, self.heads), self.text_k, self.text_v), *self.cross_o)
        hidden = F.gelu(F.linear(self.layer_norm(x, 1 + scale2, shift2), *self.up), approximate="tanh")
        return x + gate2 * F.linear(hidden, *self.down)


def measure_layers(clock, s):
    for size in s.sizes:
        name = f"layer.BF16.{size[0]}x{size[1]}"
        eager = Layer(clock.device, s.layer, size, rope_complex)
        clock.figure(name + "/eager", lambda: eager(eager.x, eager.e0))
        del eager
        if not hasattr(torch, "compile"):
            print(f"PyTorch {torch.__version__} has no torch.compile")
            continue
        layer = Layer(clock.device, s.layer, size, rope_real)
        compiled = torch.compile(layer, dynamic=False)
        clock.figure(name + "/compiled", lambda: compiled(layer.x, layer.e0))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["rates", "layers"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    clock, shapes = Clock("cpu" if args.tiny else args.device), Shapes(args.tiny)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(420)
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    {"rates": measure_rates, "layers": measure_layers}[args.step](clock, shapes)


if __name__ == "__main__":
    main()
