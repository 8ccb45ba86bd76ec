"""Judges a checkpoint through the engine, on characters and voices that training never saw.

    python3 evaluate.py --ckpt models/mini --json models/mini/evaluation.json --sheet models/mini/sheet.png --card models/mini/README.md
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image

import latents
import measure
import world
from character import MOODS, Pose, draw
from live_clips import LiveClips
from speech import FPS, speech

SECOND, LAGS = FPS, range(-3, 4)
PARTS = ("scenes", "live", "silence", "steps", "prompts", "long")
BEGIN, END = "<!-- evaluation: written by tools/mini/evaluate.py -->", "<!-- end of evaluation -->"


class Judge:
    """The engine, the VAE in PyTorch for templates, and a folder for files."""

    def __init__(self, args, folder):
        self.args, self.folder, self.seconds, self.frames = args, pathlib.Path(folder), 0.0, 0
        self.codec = latents.load_vae(args.ckpt / "Wan2.1_VAE.pth")
        self.templates = {}

    def openings(self, scene, frames):
        """Mouth opening of each of the scene's character's frames."""
        if id(scene) not in self.templates:
            self.templates[id(scene)] = measure.mouth_templates(self.codec, scene.character, scene.mood, self.args.size)
        return measure.openings(self.templates[id(scene)], frames, scene.character)

    def generate(self, portrait, audio, prompt, steps=4):
        """portrait [S, S, 3] u8, audio [n] f32 at 16 kHz -> path of the video."""
        picture, voice, video = (self.folder / name for name in ("portrait.png", "voice.wav", "video.mp4"))
        Image.fromarray(portrait).save(picture)
        world.write_wav(voice, audio)
        begin = time.time()
        subprocess.run([self.args.engine, "generate", "--ckpt_dir", self.args.ckpt, "--image", picture, "--audio", voice, "--prompt", prompt, "--size",
                        f"{portrait.shape[1]}*{portrait.shape[0]}", "--sample_steps", str(steps), "--threads", str(self.args.threads),
                        "--base_seed", str(self.args.seed + 1), "--save_file", video, "--quiet", *self.args.engine_flags.split()], check=True)
        self.seconds, self.frames = self.seconds + time.time() - begin, self.frames + len(audio) * FPS // world.RATE
        return video

    def frames_of(self, video):
        """Yields [S, S, 3] u8 one after the other: nothing piles up. As they are: ffmpeg would fill the gap before a late first frame."""
        size = self.args.size
        pipe = subprocess.Popen(["ffmpeg", "-v", "error", "-i", video, "-map", "0:v", "-fps_mode", "passthrough", "-sws_flags", "bicubic+full_chroma_int+full_chroma_inp+accurate_rnd",
                                 "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE)
        while len(data := pipe.stdout.read(size * size * 3)) == size * size * 3:
            yield np.frombuffer(data, np.uint8).reshape(size, size, 3)

    def clip(self, scene, audio=None, steps=4, prompt=None):
        """-> frames [T, S, S, 3] of the scene's character."""
        audio = scene.audio if audio is None else audio
        return np.stack(list(self.frames_of(self.generate(scene.still, audio, scene.caption if prompt is None else prompt, steps))))[:len(scene.frames)]


def mouth_figures(tracks, truths, at=SECOND):
    """tracks and truths: per scene, opening a frame. The first second, mostly silent in all of them, is left out."""
    by_lag = {lag: float(np.mean([measure.correlation(g[at:], t[at:], lag) for g, t in zip(tracks, truths)])) for lag in LAGS}
    best = max(by_lag, key=by_lag.get)
    others = [measure.correlation(g[at:], truths[(i + k) % len(truths)][at:], best) for i, g in enumerate(tracks) for k in range(1, len(truths))]
    return dict(mouth_correlation=by_lag[best], best_lag_frames=best, mouth_correlation_at_lag_0=by_lag[0], mouth_correlation_shuffled=float(np.mean(others)) if others else 0.0)


def judge_scenes(judge, scenes):
    """-> figures over the scenes, frames of each."""
    videos, tracks, again, figures = [], [], [], {}
    for s in scenes:
        videos.append(judge.clip(s))
        tracks.append(judge.openings(s, videos[-1]))
        again.append(measure.through_vae(judge.codec, s.frames, s.still))
    truths = [s.opening for s in scenes]
    size = judge.args.size
    mouth = (slice(None), slice(size // 2, int(size * 0.9)), slice(int(size * 0.3), int(size * 0.7)))
    figures.update(mouth_figures(tracks, truths))
    ceilings = [judge.openings(s, a) for a, s in zip(again, scenes)]
    mean = lambda values: float(np.mean(list(values)))
    figures.update(
        mouth_correlation_each=[measure.correlation(g[SECOND:], t[SECOND:], figures["best_lag_frames"]) for g, t in zip(tracks, truths)],
        mouth_ceiling_vae=mean(measure.correlation(c[SECOND:], t[SECOND:]) for c, t in zip(ceilings, truths)),
        opening_spread=mean(g.std() / t.std() for g, t in zip(tracks, truths)),
        closed_opening=mean(g[t < 0.02].mean() for g, t in zip(tracks, truths) if (t < 0.02).any()),
        motion_ratio=mean(measure.motion(v) / measure.motion(s.frames) for v, s in zip(videos, scenes)),
        sharpness_ratio=mean(measure.sharpness(v) / measure.sharpness(s.frames) for v, s in zip(videos, scenes)),
        vae_psnr_db=mean(measure.psnr_db(a, s.frames) for a, s in zip(again, scenes)),
        vae_psnr_mouth_db=mean(measure.psnr_db(a[mouth], s.frames[mouth]) for a, s in zip(again, scenes)))
    return figures, videos


def judge_live(judge, scenes, figures):
    """The same scenes spoken into live sessions, which hear two seconds of the voice at a time."""
    with LiveClips(judge.args) as live:
        tracks = [judge.openings(s, live.clip(s)) for s in scenes]
    lag = figures["best_lag_frames"]
    each = [measure.correlation(g[SECOND:], s.opening[SECOND:], lag) for g, s in zip(tracks, scenes)]
    return dict(mouth_correlation_live=float(np.mean(each)), mouth_correlation_live_each=each)


def judge_silence(judge, scenes):
    """Fed digital zeros: opening, of the range that voices reach."""
    out = []
    for s in scenes:
        video = judge.clip(s, np.zeros(4 * world.RATE, np.float32))
        out.append(judge.openings(s, video)[SECOND:].mean() / np.quantile(s.opening, 0.95))
    return dict(silent_opening=float(np.mean(out)))


def judge_steps(judge, scenes, figures):
    tracks = [judge.openings(s, judge.clip(s, steps=16)) for s in scenes]
    lag, four = figures["best_lag_frames"], figures["mouth_correlation_each"][:len(scenes)]
    sixteen = [measure.correlation(g[SECOND:], s.opening[SECOND:], lag) for g, s in zip(tracks, scenes)]
    worst = max(1 - f / max(s, 1e-3) for f, s in zip(four, sixteen))
    return dict(mouth_correlation_16_steps=float(np.mean(sixteen)), mouth_correlation_4_steps_same_scenes=float(np.mean(four)), worst_loss_of_4_steps=worst)


def judge_prompts(judge, scenes):
    """Every mood and look asked of characters whose portrait shows neither."""
    right = []
    for s in scenes:
        templates = measure.look_templates(judge.codec, s.character, judge.args.size)
        for mood in MOODS:
            for look in world.LOOKS:
                video = judge.clip(s, s.audio[:2 * world.RATE], prompt=f"A cartoon character talks and looks {look}, {world.FEELINGS[mood]}.")
                got = measure.mood_and_look(templates, video[SECOND:], s.character)
                right.append((got[0] == mood, got[1] == look))
    mood, look = np.mean(right, 0)
    return dict(prompt_mood_accuracy=float(mood), prompt_mood_chance=1 / len(MOODS), prompt_look_accuracy=float(look), prompt_look_chance=1 / len(world.LOOKS))


def judge_long(judge, scene, minutes):
    """One long run, read as a stream: does it freeze, drift or become someone else?"""
    count = int(minutes * 60 * FPS)
    voice = speech(np.random.default_rng([judge.args.seed, 99]), count, held_out=True)
    tail, ten, identity, colours, moved, previous = [], 10 * FPS, {}, [], [], None
    for i, frame in enumerate(judge.frames_of(judge.generate(scene.still, voice.audio, scene.caption))):
        f = frame.astype(np.float32)
        colours.append(f.mean((0, 1)))
        moved.append(0.0 if previous is None else float(np.abs(f - previous).mean()))
        previous, tail = f, (tail + [frame])[-2 * FPS:]
        if i + 1 in (ten, count):
            identity[i + 1] = measure.identity_distance(np.stack(tail), scene.still)
    drift = np.abs(np.mean(colours[-ten:], 0) - np.mean(colours[:ten], 0)).max()
    return dict(long_minutes=minutes, long_frames=len(colours), identity_10s=identity[ten], identity_end=identity[count], identity_ratio=identity[count] / identity[ten],
                rgb_shift=float(drift), long_motion_ratio=float(np.mean(moved[-60 * FPS:]) / measure.motion(scene.frames)))


def contact_sheet(scenes, videos, with_truth):
    """A row a character: portrait, then frames from half a second on; the world's own above them if asked."""
    rows = []
    for s, video in list(zip(scenes, videos))[:8]:
        pick = np.linspace(SECOND // 2, len(video) - 1, 9).astype(int)
        rows += ([s.still] + list(s.frames[pick]) if with_truth else []) + [s.still] + list(video[pick])
    return world.sheet(rows, 10)


def evaluate(judge, args):
    """-> figures (those of other parts as --json has them), contact sheet or None."""
    scenes = [world.scene(args.seed + i, args.frames, args.size, held_out=True) for i in range(args.count)]
    figures, sheet = json.loads(args.json.read_text()) if args.json and args.json.exists() else {}, None
    if "scenes" in args.parts:
        part, videos = judge_scenes(judge, scenes)
        figures.update(part)
        sheet = contact_sheet(scenes, videos, args.sheet_truth)
    if "live" in args.parts:
        figures.update(judge_live(judge, scenes, figures))
    if "silence" in args.parts:
        figures.update(judge_silence(judge, scenes[:4]))
    if "steps" in args.parts:
        figures.update(judge_steps(judge, scenes[:args.steps16], figures))
    if "prompts" in args.parts:
        figures.update(judge_prompts(judge, scenes[:args.prompt_scenes]))
    if "long" in args.parts:
        figures.update(judge_long(judge, scenes[0], args.long_minutes))
    figures.update(seed=args.seed, count=args.count, frames=args.frames, frames_per_second=judge.frames / judge.seconds)
    return figures, sheet


def table(figures, args):
    """Markdown, every figure with what it is."""
    lines = [f"{args.count} held-out characters and voices, {args.frames} frames each, {args.size} x {args.size}, engine in bf16{', ' + args.engine_flags if args.engine_flags else ''}, 4 steps.", "", "| figure | value |",
             "| --- | --- |"]
    return "\n".join(lines + [f"| {k} | {v:.3f} |" if isinstance(v, float) else f"| {k} | {v} |" for k, v in figures.items() if not isinstance(v, list)])


def write_card(path, text):
    card = path.read_text()
    head, rest = card.split(BEGIN)
    path.write_text(head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--ckpt", type=pathlib.Path, default=root / "models/mini")
    parser.add_argument("--engine", default=root / "build/release/bin/liveavatar")
    parser.add_argument("--engine-flags", default="", help="more flags for generate, as one word: --engine-flags='--weights_dtype int8'")
    parser.add_argument("--seed", type=int, default=0, help="picks the characters and voices")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--frames", type=int, default=192)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps16", type=int, default=4, help="scenes also sampled in 16 steps")
    parser.add_argument("--prompt-scenes", type=int, default=2, help="characters asked for every mood and look")
    parser.add_argument("--long-minutes", type=float, default=10, help="of the long run")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; figures of other parts stay as they are in --json")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--sheet", type=pathlib.Path, help="PNG: portrait, then generated frames, a row a character")
    parser.add_argument("--sheet-truth", action="store_true", help="the world's frames above the generated ones")
    parser.add_argument("--card", type=pathlib.Path, help="README whose table is rewritten")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures, sheet = evaluate(Judge(args, folder), args)
    text = table(figures, args)
    print(text)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    if args.sheet and sheet is not None:
        Image.fromarray(sheet).save(args.sheet)
    if args.card:
        write_card(args.card, text)


if __name__ == "__main__":
    main()
