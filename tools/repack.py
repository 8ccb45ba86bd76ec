"""Writes a copy of a video model's file with its large matrices in 8 or 4 bits, in a convention that is in use.

    python3 tools/repack.py models/mini/diffusion_pytorch_model.safetensors out.safetensors --convention fp8_scaled

The conventions are those of docs/checkpoint.md. Values with a scale for each row (*_rows) equal those that the engine makes
itself for --weights_dtype int8 and fp8, so that both give the same video to the bit. Needs NumPy.
"""

import argparse
import json
import pathlib
import re
import struct

import numpy as np

LARGE = re.compile(r"(blocks\.\d+\.(self_attn|cross_attn)\.[qkvo]|blocks\.\d+\.ffn\.[02]|audio_injector\.injector\.\d+\.[qkvo])\.weight$")
TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8, "I8": np.int8, "I64": np.int64}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def read(path):
    """{name: (dtype, array)}; BF16 as its bits."""
    data = pathlib.Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin:8 + length + end]
        tensors[name] = (entry["dtype"], np.frombuffer(raw, TYPES[entry["dtype"]]).reshape(entry["shape"]))
    return tensors


def write(path, tensors, metadata):
    header, offset = ({"__metadata__": metadata} if metadata else {}), 0
    for name, (dtype, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            out.write(np.ascontiguousarray(values).tobytes())


def as_f32(dtype, values):
    if dtype != "BF16":
        return values.astype(np.float32)
    return (values.astype(np.uint32) << 16).view(np.float32)


def to_e4m3(x):
    """Nearest, ties to even, largest 448; as bytes."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    sign, magnitude = (bits >> 24) & 0x80, bits & 0x7FFFFFFF
    size = magnitude.view(np.float32)
    rounded = (magnitude + 0x7FFFF + ((magnitude >> 20) & 1) - (120 << 23)) >> 20
    small = np.rint(size * np.float32(512)).astype(np.uint32)
    fp8 = np.where(size >= 448, 0x7E, np.where(size < 2**-6, small, rounded))
    return (fp8 | sign).astype(np.uint8)


def from_e4m3(fp8):
    fp8 = fp8.astype(np.int32)
    exponent, mantissa = (fp8 >> 3) & 15, fp8 & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0**(exponent - 10.0))
    return np.where(fp8 & 128, -size, size).astype(np.float32)


def scale_of(w, top, axis):
    largest = np.abs(w).max(axis=axis, keepdims=True)
    return (largest / np.float32(top)).astype(np.float32)


def scaled(w, scale):
    inverse = np.where(scale == 0, np.float32(0), np.float32(1) / np.where(scale == 0, np.float32(1), scale))
    return (w * inverse.astype(np.float32)).astype(np.float32)


def tiles(scales):
    """Block scales in tiles of 128 x 4, padded with zeros."""
    rows, columns = -(-scales.shape[0] // 128) * 128, -(-scales.shape[1] // 4) * 4
    padded = np.zeros((rows, columns), np.uint8)
    padded[:scales.shape[0], :scales.shape[1]] = scales
    # [down, 4, 32, across, 4] -> [down, across, 32, 4, 4]
    return padded.reshape(rows // 128, 4, 32, columns // 4, 4).transpose(0, 3, 2, 1, 4).reshape(rows, columns)


def fp8(w, axis):
    scale = scale_of(w, 448, axis)
    return ("F8_E4M3", to_e4m3(scaled(w, scale))), scale


def int8(w, axis):
    scale = scale_of(w, 127, axis)
    return ("I8", np.rint(scaled(w, scale)).astype(np.int8)), scale


def mxfp8(w):
    blocks = w.reshape(w.shape[0], -1, 32)
    largest = np.maximum(np.abs(blocks).max(axis=2), 2.0**-100)
    exponent = np.clip(np.ceil(np.log2(largest / 448)) + 127, 0, 254).astype(np.int32)
    quantised = to_e4m3(blocks * np.exp2(127.0 - exponent)[:, :, None].astype(np.float32))
    return ("F8_E4M3", quantised.reshape(w.shape)), ("U8", tiles(exponent.astype(np.uint8)))


def nvfp4(w):
    blocks = w.reshape(w.shape[0], -1, 16)
    whole = np.float32(np.abs(w).max() / (448 * 6))
    scales = to_e4m3(np.abs(blocks).max(axis=2) / 6 / whole)
    steps = from_e4m3(scales) * whole
    values = np.abs(blocks) / np.maximum(steps, 1e-30)[:, :, None]
    quantised = np.abs(values[..., None] - E2M1).argmin(axis=-1) | np.where(blocks < 0, 8, 0)
    quantised = quantised.reshape(w.shape).astype(np.uint8)
    return ("U8", quantised[:, 0::2] << 4 | quantised[:, 1::2]), ("F8_E4M3", tiles(scales)), ("F32", np.float32(whole).reshape(()))


def repack(tensors, convention):
    """The tensors of the new file and its metadata."""
    out, layers = {}, {}
    for name, (dtype, values) in tensors.items():
        if not LARGE.match(name):
            out[name] = (dtype, values)
            continue
        w, layer = as_f32(dtype, values), name[:-len(".weight")]
        if convention == "fp8_scaled":
            out[name], scale = fp8(w, None)
            out[layer + ".scale_weight"] = ("F32", scale.reshape(()))
        elif convention == "fp8_comfy":
            out[name], scale = fp8(w, None)
            out[layer + ".weight_scale"] = ("F32", scale.reshape(()))
            layers[layer] = {"format": "float8_e4m3fn"}
        elif convention in ("fp8_rows", "int8_rows"):
            out[name], scale = (fp8 if convention == "fp8_rows" else int8)(w, 1)
            out[layer + ".weight_scale"] = ("F32", scale)
        elif convention == "int8_tensorwise":
            out[name], scale = int8(w, None)
            out[layer + ".weight_scale"] = ("F32", scale.reshape(1))
            text = json.dumps({"format": "int8_tensorwise"}).encode()
            out[layer + ".comfy_quant"] = ("U8", np.frombuffer(text, np.uint8))
        elif convention == "mxfp8":
            out[name], out[layer + ".weight_scale"] = mxfp8(w)
            layers[layer] = {"format": "mxfp8"}
        elif convention == "nvfp4":
            out[name], out[layer + ".weight_scale"], out[layer + ".weight_scale_2"] = nvfp4(w)
            layers[layer] = {"format": "nvfp4"}
    if convention == "fp8_scaled":
        out["scaled_fp8"] = ("F8_E4M3", np.zeros(0, np.uint8))
    text = json.dumps({"format_version": "1.0", "layers": layers})
    return out, ({"_quantization_metadata": text} if layers else {})


def checkpoint(source, target, convention):
    """Makes target: the checkpoint's folder with its video model written anew, all else linked."""
    weights = "diffusion_pytorch_model.safetensors"
    target.mkdir()
    for part in source.iterdir():
        if part.name != weights:
            (target / part.name).symlink_to(part)
    write(target / weights, *repack(read(source / weights), convention))
    return target


CONVENTIONS = ("fp8_scaled", "fp8_comfy", "fp8_rows", "int8_rows", "int8_tensorwise", "mxfp8", "nvfp4")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a .safetensors in bf16, fp16 or f32 under the original's names")
    parser.add_argument("out")
    parser.add_argument("--convention", choices=CONVENTIONS, required=True)
    args = parser.parse_args()
    tensors, metadata = repack(read(args.source), args.convention)
    write(args.out, tensors, metadata)


if __name__ == "__main__":
    main()
