"""Writes a small checkpoint folder in the original's layout with random, seeded weights.

It has every part of a real one (DiT, text encoder and tokenizer, VAE, audio encoder), so that the engine's whole way can be run
anywhere; what it draws is noise. Needs torch and safetensors.

Usage: python3 tools/make_checkpoint.py OUT_DIR --tokenizer SPIECE_MODEL [--seed 1]
"""

import argparse
import json
import math
import pathlib
import shutil

import torch
from safetensors.torch import save_file

DIT = dict(dim=128, num_heads=4, num_layers=4, ffn_dim=512, freq_dim=256, text_dim=64, text_len=128, audio_dim=64,
           num_audio_token=4, audio_inject_layers=[0, 2])
TEXT = dict(dim=64, heads=4, layers=2, ffn=160, vocabulary=1152, buckets=32)
AUDIO = dict(hidden_size=64, num_hidden_layers=24, num_attention_heads=4, intermediate_size=128, conv=32)
VAE_DIM = 8
AUDIO_LAYERS = 25


class Weights(dict):
    """Named random tensors. Matrices keep the variance of what passes through them; gains are one, biases zero."""

    def __init__(self, seed):
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def normal(self, name, shape, std):
        self[name] = torch.randn(shape, generator=self.random) * std

    def matrix(self, name, out, *fan_in, bias=True, gain=1.0):
        self.normal(name + ".weight", (out, *fan_in), gain / math.sqrt(math.prod(fan_in)))
        if bias:
            self[name + ".bias"] = torch.zeros(out)

    def ones(self, name, *shape):
        self[name] = torch.ones(shape)

    def norm(self, name, width):
        self.ones(name + ".weight", width)
        self[name + ".bias"] = torch.zeros(width)


def dit(seed):
    """The causal S2V DiT under the original's tensor names."""
    w, d = Weights(seed), DIT["dim"]

    def attention(name):
        for part in "qkvo":
            w.matrix(f"{name}.{part}", d, d)
        w.ones(f"{name}.norm_q.weight", d)
        w.ones(f"{name}.norm_k.weight", d)

    w.matrix("patch_embedding", d, 16, 1, 2, 2)
    w.matrix("cond_encoder", d, 16, 1, 2, 2)
    for name, kernel in (("proj", (1, 2, 2)), ("proj_2x", (2, 4, 4)), ("proj_4x", (4, 8, 8))):
        w.matrix(f"frame_packer.{name}", d, 16, *kernel)
    w.matrix("text_embedding.0", d, DIT["text_dim"])
    w.matrix("text_embedding.2", d, d)
    w.matrix("time_embedding.0", d, DIT["freq_dim"])
    w.matrix("time_embedding.2", d, d)
    w.matrix("time_projection.1", 6 * d, d, gain=0.2)
    w.normal("trainable_cond_mask.weight", (3, d), 0.02)
    for i in range(DIT["num_layers"]):
        attention(f"blocks.{i}.self_attn")
        attention(f"blocks.{i}.cross_attn")
        w.norm(f"blocks.{i}.norm3", d)
        w.matrix(f"blocks.{i}.ffn.0", DIT["ffn_dim"], d)
        w.matrix(f"blocks.{i}.ffn.2", d, DIT["ffn_dim"])
        w.normal(f"blocks.{i}.modulation", (1, 6, d), 0.1)
    for j in range(len(DIT["audio_inject_layers"])):
        attention(f"audio_injector.injector.{j}")
        w.matrix(f"audio_injector.injector_adain_layers.{j}.linear", 2 * d, d, gain=0.2)
    w.normal("casual_audio_encoder.weights", (1, AUDIO_LAYERS, 1, 1), 0.1)
    encoder = "casual_audio_encoder.encoder."
    w.matrix(encoder + "conv1_local.conv", d, DIT["audio_dim"], 3)
    w.matrix(encoder + "conv1_global.conv", d // 4, DIT["audio_dim"], 3)
    w.matrix(encoder + "conv2.conv", d // 2, d // 4, 3)
    w.matrix(encoder + "conv3.conv", d, d // 2, 3)
    w.matrix(encoder + "final_linear", d, d)
    w.normal(encoder + "padding_tokens", (1, 1, 1, d), 0.02)
    w.matrix("head.head", 64, d)
    w.normal("head.modulation", (1, 2, d), 0.1)
    return w


def text_encoder(seed):
    """UMT5 with a position table a layer."""
    w, d = Weights(seed), TEXT["dim"]
    w.normal("token_embedding.weight", (TEXT["vocabulary"], d), 1.0)
    for i in range(TEXT["layers"]):
        name = f"blocks.{i}."
        w.ones(name + "norm1.weight", d)
        w.ones(name + "norm2.weight", d)
        for part in "qkvo":
            w.matrix(name + "attn." + part, d, d, bias=False)
        w.matrix(name + "ffn.gate.0", TEXT["ffn"], d, bias=False)
        w.matrix(name + "ffn.fc1", TEXT["ffn"], d, bias=False)
        w.matrix(name + "ffn.fc2", d, TEXT["ffn"], bias=False)
        w.normal(name + "pos_embedding.embedding.weight", (TEXT["buckets"], TEXT["heads"]), 0.1)
    w.ones("norm.weight", d)
    return w


def vae(seed):
    """Wan 2.1 VAE topology, narrow."""
    w, c = Weights(seed), VAE_DIM
    widths = [c * m for m in (1, 2, 4, 4)]

    def block(name, fan_in, fan_out):
        w.ones(name + ".residual.0.gamma", fan_in, 1, 1, 1)
        w.matrix(name + ".residual.2", fan_out, fan_in, 3, 3, 3)
        w.ones(name + ".residual.3.gamma", fan_out, 1, 1, 1)
        w.matrix(name + ".residual.6", fan_out, fan_out, 3, 3, 3)
        if fan_in != fan_out:
            w.matrix(name + ".shortcut", fan_out, fan_in, 1, 1, 1)

    def middle(name, width):
        block(name + ".0", width, width)
        w.ones(name + ".1.norm.gamma", width, 1, 1)
        w.matrix(name + ".1.to_qkv", 3 * width, width, 1, 1)
        w.matrix(name + ".1.proj", width, width, 1, 1)
        block(name + ".2", width, width)

    w.matrix("encoder.conv1", c, 3, 3, 3, 3)
    index, width = 0, c
    for stage, out in enumerate(widths):
        for _ in range(2):
            block(f"encoder.downsamples.{index}", width, out)
            index, width = index + 1, out
        if stage < 3:
            w.matrix(f"encoder.downsamples.{index}.resample.1", width, width, 3, 3)
            if stage > 0:
                w.matrix(f"encoder.downsamples.{index}.time_conv", width, width, 3, 1, 1)
            index += 1
    middle("encoder.middle", width)
    w.ones("encoder.head.0.gamma", width, 1, 1, 1)
    w.matrix("encoder.head.2", 32, width, 3, 3, 3)
    w.matrix("conv1", 32, 32, 1, 1, 1)
    w.matrix("conv2", 16, 16, 1, 1, 1)
    w.matrix("decoder.conv1", width, 16, 3, 3, 3)
    middle("decoder.middle", width)
    index = 0
    for stage, out in enumerate(reversed(widths)):
        for _ in range(3):
            block(f"decoder.upsamples.{index}", width, out)
            index, width = index + 1, out
        if stage < 3:
            if stage < 2:
                w.matrix(f"decoder.upsamples.{index}.time_conv", 2 * width, width, 3, 1, 1)
            w.matrix(f"decoder.upsamples.{index}.resample.1", width // 2, width, 3, 3)
            index, width = index + 1, width // 2
    w.ones("decoder.head.0.gamma", width, 1, 1, 1)
    w.matrix("decoder.head.2", 3, width, 3, 3, 3)
    return w


def audio_encoder(seed):
    """wav2vec2 of the large kind."""
    w, d, c = Weights(seed), AUDIO["hidden_size"], AUDIO["conv"]
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"wav2vec2.feature_extractor.conv_layers.{i}"
        w.matrix(name + ".conv", c, 1 if i == 0 else c, kernel)
        w.norm(name + ".layer_norm", c)
    w.norm("wav2vec2.feature_projection.layer_norm", c)
    w.matrix("wav2vec2.feature_projection.projection", d, c)
    position = "wav2vec2.encoder.pos_conv_embed.conv."
    w.normal(position + "weight_v", (d, d // 16, 128), 1.0)
    w.normal(position + "weight_g", (1, 1, 128), 0.1)
    w[position + "bias"] = torch.zeros(d)
    for i in range(AUDIO["num_hidden_layers"]):
        name = f"wav2vec2.encoder.layers.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            w.matrix(name + "attention." + part, d, d)
        w.norm(name + "layer_norm", d)
        w.matrix(name + "feed_forward.intermediate_dense", AUDIO["intermediate_size"], d)
        w.matrix(name + "feed_forward.output_dense", d, AUDIO["intermediate_size"])
        w.norm(name + "final_layer_norm", d)
    w.norm("wav2vec2.encoder.layer_norm", d)
    return w


def configs():
    """config.json of the DiT and of wav2vec2."""
    model = dict(_class_name="WanModel_S2V", model_type="s2v", in_dim=16, out_dim=16, cond_dim=16, enable_adain=True,
                 adain_mode="attn_norm", zero_timestep=True, enable_framepack=True, framepack_drop_mode="padd", qk_norm=True,
                 cross_attn_norm=True, eps=1e-6, **DIT)
    audio = dict({k: v for k, v in AUDIO.items() if k != "conv"}, model_type="wav2vec2", conv_dim=[AUDIO["conv"]] * 7,
                 conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2], conv_bias=True,
                 feat_extract_norm="layer", do_stable_layer_norm=True, layer_norm_eps=1e-5, num_conv_pos_embeddings=128,
                 num_conv_pos_embedding_groups=16)
    return model, audio


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="a SentencePiece model")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    audio_dir, text_dir = args.out / "wav2vec2-large-xlsr-53-english", args.out / "google" / "umt5-xxl"
    for folder in (audio_dir, text_dir):
        folder.mkdir(parents=True, exist_ok=True)

    def bf16(weights):
        return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}

    save_file(bf16(dit(args.seed)), args.out / "diffusion_pytorch_model.safetensors")
    torch.save(bf16(text_encoder(args.seed + 1)), args.out / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(bf16(vae(args.seed + 2)), args.out / "Wan2.1_VAE.pth")
    save_file(bf16(audio_encoder(args.seed + 3)), audio_dir / "model.safetensors")
    shutil.copy(args.tokenizer, text_dir / "spiece.model")
    model, audio = configs()
    (args.out / "config.json").write_text(json.dumps(model, indent=2) + "\n")
    (audio_dir / "config.json").write_text(json.dumps(audio, indent=2) + "\n")
    (audio_dir / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}) + "\n")


if __name__ == "__main__":
    main()
