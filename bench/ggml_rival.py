"""The DiT layer of rivals.py in ggml, by the shared libraries that the PyPI package llama-cpp-python builds.

Written to be fast there: RoPE pairs are in the two halves of a head (weights permuted once), so that RoPE needs no copies;
keys after RoPE stay in the cache; one graph, planned once.
"""

import ctypes
import importlib.util
import pathlib

import numpy as np
import torch

import rivals

TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}  # enum ggml_type
VOID, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_float


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", SIZE), ("mem_buffer", VOID), ("no_alloc", ctypes.c_bool)]


class Plan(ctypes.Structure):  # ggml_cplan, and space for the fields of newer versions
    _fields_ = [("work_size", SIZE), ("work_data", VOID), ("n_threads", ctypes.c_int), ("threadpool", VOID), ("abort_callback", VOID),
                ("abort_callback_data", VOID), ("more", ctypes.c_uint8 * 64)]


class Node:
    """A tensor; ne, the sizes, fastest first."""

    def __init__(self, at, ne):
        self.at, self.ne = at, tuple(ne)


class Context:
    """ggml's functions, and the memory of one graph."""

    def __init__(self, bytes_):
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None:
            raise RuntimeError("the Python package llama-cpp-python is not installed")
        folder = pathlib.Path(spec.submodule_search_locations[0]) / "lib"
        self.libraries = [ctypes.CDLL(str(folder / name), ctypes.RTLD_GLOBAL) for name in ("libggml-base.so", "libggml-cpu.so")]
        self.at = self.call("ggml_init", InitParams(bytes_, None, False), returns=VOID)
        if not self.at:
            raise RuntimeError(f"ggml has no {bytes_} bytes")

    def __del__(self):
        if getattr(self, "at", None):
            self.call("ggml_free", VOID(self.at), returns=None)

    def call(self, name, *args, returns=VOID):
        function = next((getattr(lib, name) for lib in self.libraries if hasattr(lib, name)), None)
        if function is None:
            raise RuntimeError(f"this ggml has no {name}")
        function.restype = returns
        plain = {int: ctypes.c_int64, float: FLOAT, Node: lambda node: VOID(node.at)}
        return function(*(plain.get(type(a), lambda a: a)(a) for a in args))

    def op(self, name, *args, ne):
        """ggml_<name>(context, args) -> a tensor of sizes ne."""
        return Node(self.call("ggml_" + name, VOID(self.at), *args), ne)

    def tensor(self, values, kind="f32"):
        """A torch tensor's copy, sizes reversed."""
        ne = tuple(reversed(values.shape))
        node = self.op("new_tensor", ctypes.c_int(TYPES[kind]), ctypes.c_int(len(ne)), (ctypes.c_int64 * len(ne))(*ne), ne=ne)
        if kind == "q8_0":
            data, rows = np.ascontiguousarray(values.float().numpy()), values.numel() // ne[0]
            self.call("ggml_quantize_chunk", ctypes.c_int(TYPES[kind]), VOID(data.ctypes.data), VOID(self.data(node)), 0, rows, ne[0], None, returns=SIZE)
            return node
        stored = values.to({"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[kind]).contiguous()
        ctypes.memmove(self.data(node), stored.data_ptr(), stored.numel() * stored.element_size())
        return node

    def data(self, node):
        return self.call("ggml_get_data", node)

    def view(self, x, ne, offset, strides):
        """Bytes: offset and strides (of the second size and on)."""
        return self.op(f"view_{len(ne)}d", x, *ne, *(SIZE(s) for s in strides), SIZE(offset), ne=ne)

    def add(self, x, y):
        return self.op("add", x, y, ne=x.ne)

    def mul(self, x, y):
        return self.op("mul", x, y, ne=x.ne)

    def permute(self, x):
        """Swaps the second and third size."""
        return self.op("permute", x, 0, 2, 1, 3, ne=(x.ne[0], x.ne[2], x.ne[1]))


class Graph:
    def __init__(self, context, outputs, threads):
        self.context = context
        self.at = context.call("ggml_new_graph_custom", VOID(context.at), SIZE(4096), ctypes.c_bool(False))
        for node in outputs:
            context.call("ggml_build_forward_expand", VOID(self.at), node)
        self.plan = context.call("ggml_graph_plan", VOID(self.at), ctypes.c_int(threads), None, returns=Plan)
        self.work = ctypes.create_string_buffer(self.plan.work_size + 64)
        self.plan.work_data = ctypes.addressof(self.work)

    def run(self):
        if self.context.call("ggml_graph_compute", VOID(self.at), ctypes.byref(self.plan), returns=ctypes.c_int) != 0:
            raise RuntimeError("ggml could not compute the graph")


def in_halves(x, heads):
    """The last dimension, head by head: evens first, then odds."""
    return x.unflatten(-1, (heads, -1, 2)).transpose(-1, -2).flatten(-3)


class DitLayer:
    """weights_type: bf16, f16 or q8_0; cache_type of keys and values: f16 or f32 (of bf16 attention is several times slower)."""

    def __init__(self, weights, config, inputs, threads, weights_type, cache_type):
        self.heads, self.dim = config["num_heads"], config["dim"]
        self.d, self.tokens = self.dim // self.heads, len(inputs["x"])
        self.weights_type, self.cache_type = weights_type, cache_type
        self.plain = rivals.DitLayer(weights, config, inputs, torch.bfloat16)  # its caches, text and RoPE tables
        self.keys = self.plain.k.shape[2]
        self.w = {k[len("blocks.0."):]: v for k, v in weights.items() if k.startswith("blocks.0.")}
        # No memory is shared: each node of the graph has its own, some fifty of them a row of the width.
        rows = self.tokens * (50 * self.dim + 4 * config["ffn_dim"]) + 4 * self.keys * self.dim
        self.c = Context((64 << 20) + 4 * rows + sum(2 * v.numel() for v in self.w.values()))
        self.graph = Graph(self.c, self.build(inputs), threads)

    def linear(self, name, x, permuted=False):
        weight, bias = self.w[name + ".weight"], self.w[name + ".bias"]
        if permuted:
            weight, bias = in_halves(weight.T, self.heads).T, in_halves(bias, self.heads)
        c = self.c
        product = c.op("mul_mat", c.tensor(weight, self.weights_type), x, ne=(len(weight), x.ne[1]))
        return c.add(product, c.tensor(bias))

    def rms_norm(self, x, gain):
        return self.c.mul(self.c.op("rms_norm", x, rivals.EPS, ne=x.ne), self.c.tensor(gain))

    def layer_norm(self, x, scale, shift):
        return self.c.add(self.c.mul(self.c.op("norm", x, rivals.EPS, ne=x.ne), self.c.tensor(scale)), self.c.tensor(shift))

    def apply_rope(self, x, table):
        """x [d, heads, tokens] in halves."""
        c, (d, heads, tokens) = self.c, x.ne
        half, strides = (d // 2, heads, tokens), (4 * d, 4 * d * heads)
        a, b = c.view(x, half, 0, strides), c.view(x, half, 2 * d, strides)
        cos, sin = (c.tensor(t) for t in table)  # [tokens, 1, d / 2]
        minus = self.c.op("sub", c.mul(a, cos), c.mul(b, sin), ne=half)
        return c.op("concat", minus, c.add(c.mul(a, sin), c.mul(b, cos)), ctypes.c_int(0), ne=x.ne)

    def split(self, x):
        return self.c.op("reshape_3d", x, self.d, self.heads, x.ne[1], ne=(self.d, self.heads, x.ne[1]))

    def write_kv(self, x, cache, first):
        """x [d, heads, tokens] into the cache [d, keys, heads] from key `first` on; the cache after that."""
        c, item = self.c, {"f32": 4}.get(self.cache_type, 2)
        slot = c.view(cache, (self.d, x.ne[2], self.heads), first * self.d * item, (self.d * item, self.keys * self.d * item))
        return c.op("cpy", c.permute(x), slot, ne=slot.ne)

    def attend(self, q, k, v):
        """q [d, heads, tokens]; k, v [d, keys, heads] -> [D, tokens]"""
        c = self.c
        out = c.op("flash_attn_ext", c.permute(q), k, v, None, self.d ** -0.5, 0.0, 0.0, ne=(self.d, self.heads, q.ne[2]))
        return c.op("reshape_2d", out, self.dim, q.ne[2], ne=(self.dim, q.ne[2]))

    def build(self, inputs):
        """-> the outputs in their order: the caches before they are read, the layer's output last."""
        c, p = self.c, self.plain
        shift1, scale1, gate1, shift2, scale2, gate2 = p.modulation + inputs["e0"]
        x = c.tensor(inputs["x"])
        keys, values = (c.tensor(t, self.cache_type) for t in (in_halves(p.k[0], 1), p.v[0]))
        y = self.layer_norm(x, 1 + scale1, shift1)
        q = self.rms_norm(self.linear("self_attn.q", y, True), in_halves(p.self_attn_norm_q, self.heads))
        k = self.rms_norm(self.linear("self_attn.k", y, True), in_halves(p.self_attn_norm_k, self.heads))
        sink = c.tensor(in_halves(p.sink_k.float(), 1))
        written = [self.write_kv(self.apply_rope(self.split(k), p.rope_table), keys, p.slot),
                   self.write_kv(self.apply_rope(sink, p.sink_rope_table), keys, p.cache_tokens),
                   self.write_kv(self.split(self.linear("self_attn.v", y)), values, p.slot)]
        attended = self.attend(self.apply_rope(self.split(q), p.rope_table), keys, values)
        x = c.add(x, c.mul(self.linear("self_attn.o", attended), c.tensor(gate1)))
        q = self.rms_norm(self.linear("cross_attn.q", self.layer_norm(x, p.norm3_weight, p.norm3_bias)), p.cross_attn_norm_q)
        text = [c.tensor(t[0], self.cache_type) for t in p.text]
        x = c.add(x, self.linear("cross_attn.o", self.attend(self.split(q), *text)))
        hidden = self.linear("ffn.0", self.layer_norm(x, 1 + scale2, shift2))
        down = self.linear("ffn.2", c.op("gelu", hidden, ne=hidden.ne))
        self.output = c.add(x, c.mul(down, c.tensor(gate2)))
        return [*written, self.output]

    def __call__(self):
        self.graph.run()
        floats = (ctypes.c_float * (self.dim * self.tokens)).from_address(self.c.data(self.output))
        return torch.from_numpy(np.frombuffer(floats, np.float32)).reshape(self.tokens, self.dim)
