"""The targets of compare_pytorch.py: shapes, synthetic weights from a seed, inputs, and PyTorch's variants."""

import itertools
import json
import math
import time

import torch
from safetensors.torch import save_file

import rivals

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
# Pixels 384 x 256 are latents 48 x 32; a block is 3 latents, 12 frames.
DIT = {"dit_1.3b": dict(dim=1536, num_heads=12, ffn_dim=8960), "dit_14b": dict(dim=5120, num_heads=40, ffn_dim=13824)}
DIT_TINY = dict(dim=96, num_heads=4, ffn_dim=160)
# The parts of the checkpoint that a layer does not use are kept narrow.
DIT_REST = dict(num_layers=1, freq_dim=16, text_dim=16, text_len=512, audio_dim=16, num_audio_token=4, num_audio_layers=2,
                audio_inject_layers=[])
AUDIO = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, conv=512)
AUDIO_TINY = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, conv=32)
TEXT = dict(dim=4096, heads=64, ffn=10240, layers=1, buckets=32, vocabulary=1000, tokens=512)
TEXT_TINY = dict(dim=64, heads=4, ffn=96, layers=2, buckets=32, vocabulary=100, tokens=150)


def synthetic(shapes, generator):
    """bf16 values that keep their magnitude at any depth: products keep the magnitude of their inputs, norms hardly scale."""
    out = {}
    for name, shape in shapes.items():
        draw = torch.randn(shape, generator=generator)
        if name.endswith("bias"):
            draw *= 0.02
        elif name.endswith("modulation"):
            draw *= 0.1
        elif sum(n > 1 for n in shape) < 2:
            draw = 1 + 0.05 * draw
        else:
            draw *= math.prod(shape[1:]) ** -0.5
        out[name] = draw.bfloat16()
    return out


def shapes_of(make):
    if hasattr(torch.nn.functional, "scaled_dot_product_attention"):  # PyTorch 2: no need to fill them
        with torch.device("meta"):
            return {k: tuple(v.shape) for k, v in make().state_dict().items()}
    return {k: tuple(v.shape) for k, v in make().state_dict().items()}


def compiled(module, tune=False):
    """With weights as constants, so that they are packed for the machine once."""
    if not hasattr(torch, "compile"):
        raise RuntimeError(f"PyTorch {torch.__version__} has no torch.compile")
    torch._dynamo.reset()
    return torch.compile(module, dynamic=False, options={"freezing": True, "max_autotune": tune})


class Rival:
    """One variant of PyTorch's side: a function without arguments, and the part of its time that is not compute."""

    def __init__(self, run, base=None):
        self.call, self.call_base = run, base

    @staticmethod
    def times(f, count):
        out = []
        for _ in range(count):
            begin = time.perf_counter()
            f()
            out.append((time.perf_counter() - begin) * 1e3)
        return out

    def run(self, count):
        return self.times(self.call, count)

    def base(self, count):
        return self.times(self.call_base, count)


class Target:
    """A folder with a checkpoint and inputs, and the PyTorch variants of it."""

    has_base = False  # whether a part of the engine's time is not compute

    def __init__(self, name, folder, args):
        self.name, self.folder, self.dtype = name, folder, DTYPES[args.dtype]
        self.random = torch.Generator().manual_seed(1)
        self.args = args
        self.build(args.tiny)
        save_file({k: v.contiguous() for k, v in self.weights.items()}, folder / "weights.safetensors")
        save_file({k: v.contiguous() for k, v in self.inputs.items()}, folder / "inputs.safetensors")

    def noise(self, *shape):
        return torch.randn(shape, generator=self.random)

    def write_config(self, config):
        (self.folder / "config.json").write_text(json.dumps(config))

    def variants(self, args):
        """name -> function that makes a Rival."""
        words = [w for w in args.variants.split(",") if w]
        every = self.every_variant()
        return {name: make for name, make in every.items() if not words or any(w in name for w in words)}

    def visible(self, out):
        """The part that is compared."""
        return out


class Dit(Target):
    model = "dit"

    def build(self, tiny):
        self.config = c = dict(DIT_REST, in_dim=16, **(DIT_TINY if tiny else DIT[self.name]))
        height, width = (8, 16) if tiny else (32, 48)
        self.write_config(c)
        self.weights = synthetic(shapes_of(lambda: rivals.dit.DiT(c)), self.random)
        for name, value in self.weights.items():
            if "norm_q" in name or "norm_k" in name:
                value *= 1.6  # attention that tells keys apart: its output is as large as what the FFN adds
        tokens, dim = height * width // 4, c["dim"]
        sink = 2 * tokens + (height // 4) * (width // 4) + 4 * (height // 8) * (width // 8)
        rounded = lambda *shape: self.noise(*shape).bfloat16()
        self.inputs = dict(x=self.noise(3 * tokens, dim), e0=0.5 * self.noise(6, dim), latents=self.noise(16, 3, height, width),
                           prompt=rounded(512, dim), cache_k=1.6 * rounded(12 * tokens, dim), cache_v=rounded(12 * tokens, dim),
                           sink_k=1.6 * rounded(sink, dim), sink_v=rounded(sink, dim))
        self.output_shape = self.inputs["x"].shape
        self.what = f"a layer, width {dim}: {3 * tokens} tokens see {12 * tokens + sink} keys and a prompt of 512"

    def visible(self, out):
        return out - self.inputs["x"]  # what the layer adds

    def rival(self, compiler=None):
        m = rivals.DitLayer(self.weights, self.config, self.inputs, self.dtype)
        i, f = self.inputs, m
        if compiler:
            m.rope = rivals.rope_real
            f = compiler(m)
        return Rival(lambda: f(i["x"], i["e0"], m.sink_k, m.k, m.v))

    def every_variant(self):
        return {"eager": self.rival, "compiled": lambda: self.rival(compiled), "tuned": lambda: self.rival(lambda m: compiled(m, True))}

    def ggml_variants(self, types):
        """name -> function that makes a Rival, weights in one of `types`."""

        def rival(weights, cache):
            import ggml_rival  # its library is loaded only on request

            return Rival(ggml_rival.DitLayer(self.weights, self.config, self.inputs, self.args.threads, weights, cache))

        pairs = itertools.product(types, ("f16", "f32"))
        return {f"ggml {weights}, keys {cache}": lambda pair=(weights, cache): rival(*pair) for weights, cache in pairs}


class Vae(Target):
    model = "vae"

    def build(self, tiny):
        self.dim = 96 if self.name == "vae" and not tiny else 8
        height, width = (4, 6) if tiny else (32, 48)
        self.weights = synthetic(shapes_of(lambda: rivals.vae.VAE(self.dim)), self.random)
        self.weights["decoder.head.2.weight"] *= 0.3  # hardly anything is clamped
        self.latents = self.args.latents
        self.inputs = dict(z=self.noise(1 + self.latents, 16, 1, height, width))
        self.output_shape = (4 * self.latents, 8 * height, 8 * width, 3)
        self.what = f"decoder of width {self.dim}, {4 * self.latents} frames of {8 * width} x {8 * height} in a stream"

    def rival(self, dtype, channels_last, compiler, latents):
        m = rivals.VaeDecoder(self.weights, self.dim, dtype, channels_last)
        z = self.inputs["z"].permute(2, 1, 0, 3, 4)  # [1, 16, 1 + latents, h, w]
        _, caches = m(z[:, :, :1], [], True)
        f, state = compiler(m) if compiler else m, [caches]

        def run():
            out = []
            for part in z[:, :, 1:].split(latents, 2):
                frames, state[0] = f(part, state[0], False)
                out.append(frames)
            return torch.cat(out)

        return Rival(run)

    def every_variant(self):
        out = {}
        dtypes = {"bf16": torch.bfloat16, "f32": torch.float32} if self.dtype == torch.bfloat16 else {"f32": torch.float32}
        layouts = {"channels last": True, "channels first": False}
        choices = itertools.product(dtypes, layouts, {"eager": None, "compiled": compiled}.items(), sorted({1, self.latents}))
        for dtype, layout, (how, compiler), latents in choices:
            choice = dtypes[dtype], layouts[layout], compiler, latents
            out[f"{how} {dtype} {layout} x{latents}"] = lambda choice=choice: self.rival(*choice)
        return out


class Audio(Target):
    model = "audio"

    def build(self, tiny):
        self.config = AUDIO_TINY if tiny else AUDIO
        samples = 8000 if tiny else 80000
        frames = (samples - 400) // 320 + 1
        self.write_config(rivals.audio_encoder.hf_config(self.config))
        self.weights = synthetic(shapes_of(lambda: rivals.audio_encoder.AudioEncoder(self.config)), self.random)
        self.inputs = dict(samples=self.noise(samples))
        self.output_shape = (self.config["num_hidden_layers"] + 1, frames, self.config["hidden_size"])
        layers, width = self.config["num_hidden_layers"], self.config["hidden_size"]
        self.what = f"{layers} layers of width {width} and the extractor, {samples / 16000:g} s of audio"

    def rival(self, compiler=None):
        m = rivals.AudioEncoder(self.weights, self.config, self.dtype)
        f, samples = compiler(m) if compiler else m, self.inputs["samples"]
        return Rival(lambda: f(samples).float())

    def every_variant(self):
        return {"eager": self.rival, "compiled": lambda: self.rival(compiled)}


class Text(Target):
    model, has_base = "text", True  # the engine loads the weights layer by layer for each prompt

    def build(self, tiny):
        self.config = c = TEXT_TINY if tiny else TEXT
        dim, inner = c["dim"], c["ffn"]
        shapes = {"token_embedding.weight": (c["vocabulary"], dim), "norm.weight": (dim,)}
        for i in range(c["layers"]):
            layer = {"norm1": (dim,), "norm2": (dim,), "pos_embedding.embedding": (c["buckets"], c["heads"]),
                     "ffn.gate.0": (inner, dim), "ffn.fc1": (inner, dim), "ffn.fc2": (dim, inner)}
            layer.update({f"attn.{part}": (dim, dim) for part in "qkvo"})
            shapes.update({f"blocks.{i}.{k}.weight": v for k, v in layer.items()})
        self.weights = synthetic(shapes, self.random)
        for name, value in self.weights.items():
            if name.endswith("attn.q.weight"):
                value *= 2.5 * (dim // c["heads"]) ** -0.5  # QK is not scaled
            if "embedding" in name:
                value *= value.shape[1] ** 0.5
        self.inputs = dict(ids=torch.randint(0, c["vocabulary"], (c["tokens"],), generator=self.random))
        self.output_shape = (c["tokens"], dim)
        self.what = f"{c['layers']} layers of width {dim}, {c['tokens']} tokens, without the loading of weights"

    def rival(self, compiler=None):
        m = rivals.TextEncoder(self.weights, self.config, self.dtype)
        f, ids = compiler(m) if compiler else m, self.inputs["ids"]
        return Rival(lambda: f(ids), lambda: m(ids[:1]))

    def every_variant(self):
        return {"eager": self.rival, "compiled": lambda: self.rival(compiled)}


def make(name, folder, args):
    kinds = {"dit_1.3b": Dit, "dit_14b": Dit, "vae": Vae, "vae_mini": Vae, "wav2vec2": Audio, "umt5": Text}
    return kinds[name](name, folder, args)
