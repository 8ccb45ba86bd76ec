"""Writes a checkpoint folder in the original's layout, bf16, from what the trainings left behind."""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

import audio_encoder
import vae
from training import part


def bf16(weights):
    return {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in weights.items()}


def model_config(c):
    """config.json of the video model."""
    return dict(_class_name="WanModel_S2V", model_type="s2v", liveavatar_size="128*128", in_dim=16, out_dim=16, cond_dim=16, enable_adain=True, adain_mode="attn_norm",
                zero_timestep=True, enable_framepack=True, framepack_drop_mode="padd", qk_norm=True, cross_attn_norm=True, eps=1e-6, **c)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def export_audio(saved, folder):
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"wav2vec2." + name: value for name, value in part(saved["average"], "encoder").items()}
    save_file(bf16(weights), folder / "model.safetensors")
    write_json(folder / "config.json", audio_encoder.hf_config(saved["config"]))
    write_json(folder / "preprocessor_config.json", {"do_normalize": True, "sampling_rate": audio_encoder.RATE})


def export(parts, tokenizer, out):
    """parts: the checkpoints vae, dit, audio, text as torch.load gives them; tokenizer: a spiece.model."""
    text_dir = out / "google" / "umt5-xxl"
    text_dir.mkdir(parents=True, exist_ok=True)
    save_file(bf16(parts["dit"]["average"]), out / "diffusion_pytorch_model.safetensors")
    write_json(out / "config.json", model_config(parts["dit"]["config"]))
    torch.save(bf16(vae.fold_statistics(parts["vae"]["average"], parts["dit"]["mean"], parts["dit"]["std"])), out / "Wan2.1_VAE.pth")
    torch.save(bf16(part(parts["text"]["average"], "encoder")), out / "models_t5_umt5-xxl-enc-bf16.pth")
    export_audio(parts["audio"], out / "wav2vec2-large-xlsr-53-english")
    if pathlib.Path(tokenizer).resolve() != (text_dir / "spiece.model").resolve():
        shutil.copy(tokenizer, text_dir / "spiece.model")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="folder, models/mini for instance")
    for part in ("vae", "dit", "audio", "text"):
        parser.add_argument(f"--{part}", default=f"{part}.pt")
    parser.add_argument("--tokenizer", default="spiece.model")
    args = parser.parse_args()
    export({part: torch.load(getattr(args, part)) for part in ("vae", "dit", "audio", "text")}, args.tokenizer, args.out)


if __name__ == "__main__":
    main()
