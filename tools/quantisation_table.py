"""What narrower types lose: on the goldens of the video model, and in how well mini's mouths follow voices.

    python3 tools/quantisation_table.py --write     # rewrites the table in docs/quantisation.md
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools/mini"))

sys.path.insert(0, str(ROOT / "tools"))

import evaluate
import repack
import world

BEGIN, END = "<!-- table: written by tools/quantisation_table.py -->", "<!-- end of table -->"
# Flags of generate and golden_check; the others are compared with the first row.
TYPES = {
    "bf16": [],
    "weights int8": ["--weights_dtype", "int8"],
    "weights int8, activations int8": ["--weights_dtype", "int8", "--activations_dtype", "int8"],  # without VNNI or AMX the row equals the one above
    "weights fp8": ["--weights_dtype", "fp8"],
    "weights q4": ["--weights_dtype", "q4"],
    "keys and values int8": ["--kv_dtype", "int8"],
    "keys and values fp8": ["--kv_dtype", "fp8"],
    "weights int8, keys and values int8": ["--weights_dtype", "int8", "--kv_dtype", "int8"],
    "weights q4, keys and values int8": ["--weights_dtype", "q4", "--kv_dtype", "int8"],
}


# The mini model's file in conventions that are in use (repack.py), and the type of its matrices.
FILES = {"fp8_scaled": "bf16", "fp8_rows": "fp8", "int8_tensorwise": "bf16", "int8_rows": "int8", "mxfp8": "bf16", "nvfp4": "bf16"}


def golden_errors(args, flags):
    """Relative rms error against the Python original in f32: of velocities (the mean over forwards), and of a whole job's latents."""
    folders = [ROOT / "tests/goldens" / name for name in ("dit", "dit_even", "generate")]
    run = subprocess.run([args.golden_check, "--device", "cpu", "--dtype", "bf16", "--threads", str(args.threads), *flags, *folders], capture_output=True, text=True)
    errors = re.findall(r"^(?:ok  |far ) (\S+)  max \S+ of \S+  rms (\S+) of", run.stdout, re.M)
    velocities = [float(rms) for name, rms in errors if name.startswith("v.")]
    latents = [float(rms) for name, rms in errors if name == "latents"]
    if run.returncode != 0 or not velocities or not latents:
        sys.exit(f"golden_check {' '.join(flags)} failed:\n{run.stdout}{run.stderr}")
    return sum(velocities) / len(velocities), latents[0]


def mouth(judge, scenes, flags):
    """Correlation of mini's mouths with the voices', as tools/mini/evaluate.py has it."""
    judge.args.engine_flags = " ".join(flags)
    tracks = [judge.openings(s, judge.clip(s)) for s in scenes]
    return evaluate.mouth_figures(tracks, [s.opening for s in scenes])["mouth_correlation"]


def table(args, folder):
    lines = [f"Mouths: {args.count} held-out characters and voices, {args.frames} frames each, 128 x 128. Goldens: relative rms error against the original in f32.", "",
             "| types | velocity | latents of a job | mouth correlation | lost |", "| --- | --- | --- | --- | --- |"]
    judge = evaluate.Judge(args, folder)
    scenes = [world.scene(args.seed + i, args.frames, args.size, held_out=True) for i in range(args.count)]
    whole = None
    for name, flags in TYPES.items():
        velocity, latents = golden_errors(args, flags)
        correlation = mouth(judge, scenes, flags)
        whole = correlation if whole is None else whole
        lines.append(f"| {name} | {velocity:.2%} | {latents:.2%} | {correlation:.3f} | {whole - correlation:+.3f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines + files_table(args, folder, judge, scenes, whole))


def files_table(args, folder, judge, scenes, whole):
    lines = ["", "The same scenes with the mini model's file written by `tools/repack.py` in a convention of [checkpoint.md](checkpoint.md), held as:", "",
             "| file | held as | mouth correlation | lost |", "| --- | --- | --- | --- |"]
    plain = judge.args.ckpt
    for convention, dtype in FILES.items():
        judge.args.ckpt = repack.checkpoint(pathlib.Path(plain), pathlib.Path(folder) / convention, convention)
        correlation = mouth(judge, scenes, ["--weights_dtype", dtype])
        judge.args.ckpt = plain
        lines.append(f"| {convention} | {dtype} | {correlation:.3f} | {whole - correlation:+.3f} |")
        print(lines[-1], flush=True)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default=ROOT / "build/release/bin/liveavatar")
    parser.add_argument("--golden-check", default=ROOT / "build/release/bin/golden_check")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.set_defaults(ckpt=ROOT / "models/mini", seed=0, size=128)
    parser.add_argument("--write", action="store_true", help="rewrite the table in docs/quantisation.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(args, folder)
    if args.write:
        page = ROOT / "docs/quantisation.md"
        head, rest = page.read_text().split(BEGIN)
        page.write_text(head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
