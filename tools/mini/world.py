"""The mini model's world: cartoon characters that speak. A seed is a scene.

    python3 world.py --seed 3 --out scene.png     # every other frame of a scene
    python3 world.py --seed 3 --save DIR          # portrait.png, voice.wav, truth.json for the engine
"""

import argparse
import dataclasses
import json
import pathlib
import wave

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from character import MOODS, Pose, character, draw
from speech import FPS, RATE, silence, speech

LOOKS = {"at the camera": 0.0, "to the left": -1.0, "to the right": 1.0}
FEELINGS = {"neutral": "calm", "happy": "happy", "angry": "angry", "surprised": "surprised"}  # a mood, as captions say it
SETTLE_S = 0.5  # from the portrait's rest into the mood and gaze that the caption names


@dataclasses.dataclass
class Scene:
    """still [S, S, 3] u8; frames [n, S, S, 3] u8 (None unless drawn); audio [n * 640] f32 at 16 kHz; poses: n of them."""

    character: dict
    caption: str
    mood: str
    look: str
    audio: np.ndarray
    poses: list
    targets: np.ndarray  # [n, 4] f32: opening, width, blink, nod: all that can be heard in the voice
    visemes: np.ndarray  # [8 n] i64: classes at 200 Hz
    still: np.ndarray = None
    frames: np.ndarray = None

    @property
    def opening(self):
        return self.targets[:, 0]


def _blinks(rng, speaking):
    """Eyes close at the end of a phrase, as people's do, and every few seconds of a long silence."""
    n = len(speaking)
    blink, last = np.zeros(n, np.float32), -1000
    for i in range(1, n):
        phrase_ends = speaking[i - 1] > 0 and speaking[i] == 0
        if (phrase_ends and i - last > 12) or (speaking[i] == 0 and i - last > 75):
            for k, v in enumerate((0.5, 1.0, 1.0, 0.5)):
                if i + k < n:
                    blink[i + k] = v
            last = i
    return blink


def _nod(opening):
    """The head goes with the stress of the voice: its slow mean, about -1..1."""
    return (gaussian_filter1d(opening, 5.0) - 0.25).clip(-0.25, 0.4).astype(np.float32) * 2


def caption_of(rng, c, mood, look):
    """A sentence on what is seen; parts are left out at times, mood and look hardly ever."""
    hair = "bald" if c["hair"] == "bald" else f"with {c['hair_name']} {c['hair']} hair"
    extras = [name for name, on in (("glasses", c["glasses"]), ("a hat", c["hat"]), ("earrings", c["earring"])) if on]
    parts = ["A cartoon character", hair if rng.random() < 0.8 else ""]
    if extras and rng.random() < 0.7:
        parts.append("wearing " + " and ".join(extras))
    feeling = FEELINGS[mood]
    parts.append(rng.choice([f"talks and looks {look}, {feeling}.", f"is {feeling} and looks {look} while talking.", f"speaks, {feeling}, looking {look}."]))
    return " ".join(str(p) for p in parts if p)


def _poses(rng, mood, look, targets):
    n = len(targets)
    settle = 1 - np.exp(-np.arange(n) / (SETTLE_S * FPS / 2))
    sway = lambda sd, slow: gaussian_filter1d(rng.normal(0, 1, n + 200), slow)[100:n + 100] * np.sqrt(slow * 3.5) * sd * settle
    dx, dy, turn = sway(0.007, 12), sway(0.004, 12), sway(1.0, 14)
    gaze = LOOKS[look] * settle
    level = {name: (settle if name == mood else np.zeros(n)) for name in MOODS}
    return [Pose(opening=float(targets[i, 0]), width=float(targets[i, 1]), blink=float(targets[i, 2]), gaze_x=float(gaze[i]),
                 dx=float(dx[i] + 0.012 * gaze[i]), dy=float(dy[i] + 0.012 * targets[i, 3] * settle[i]), turn=float(turn[i] + 1.5 * gaze[i]),
                 happy=float(level["happy"][i]), angry=float(level["angry"][i]), surprised=float(level["surprised"][i])) for i in range(n)]


def scene(seed, frames=48, size=128, held_out=False, pixels=True, silent=False):
    """The seed's scene; held-out ones share no seed, voice or language with the others. silent: nobody speaks, digital zeros."""
    rng = np.random.default_rng([seed, 77 if held_out else 0])
    c = character(rng)
    mood, look = str(rng.choice(MOODS, p=[0.4, 0.2, 0.2, 0.2])), str(rng.choice(list(LOOKS), p=[0.5, 0.25, 0.25]))
    caption = caption_of(rng, c, mood, look)
    said = silence(frames) if silent else speech(rng, frames, held_out)
    targets = np.stack([said.opening, said.width, _blinks(rng, said.speaking), _nod(said.opening)], 1).astype(np.float32)
    out = Scene(c, caption, mood, look, said.audio, _poses(rng, mood, look, targets), targets, said.visemes)
    if pixels:
        out.still = draw(c, Pose(), size)
        out.frames = np.stack([draw(c, pose, size) for pose in out.poses])
    return out


def sheet(images, columns):
    """Pictures [S, S, 3] side by side, `columns` a row."""
    rows = [np.concatenate(images[i:i + columns], 1) for i in range(0, len(images), columns)]
    rows = [np.pad(r, ((0, 0), (0, rows[0].shape[1] - r.shape[1]), (0, 0))) for r in rows]
    return np.concatenate(rows, 0)


def write_wav(path, audio):
    """audio [n] f32 in -1..1 -> 16 kHz mono 16-bit file."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((np.clip(audio, -1, 1) * 32767).round().astype("<i2").tobytes())


def save(s, folder, size):
    """The engine's inputs (portrait, voice, caption) and the target that it is measured by."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(s.character, Pose(), size)).save(folder / "portrait.png")
    write_wav(folder / "voice.wav", s.audio)
    truth = dict(caption=s.caption, mood=s.mood, look=s.look, opening=[round(float(v), 4) for v in s.opening])
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=96, help="length, 25 a second (default 96)")
    parser.add_argument("--size", type=int, default=128, help="side in pixels (default 128)")
    parser.add_argument("--held-out", action="store_true", help="from the characters and voices that training never sees")
    parser.add_argument("--out", help="a picture of every other frame")
    parser.add_argument("--portrait", help="a picture of the character alone")
    parser.add_argument("--save", type=pathlib.Path, help="folder for portrait.png, voice.wav and truth.json")
    args = parser.parse_args()
    s = scene(args.seed, args.frames, args.size, args.held_out)
    print(s.caption)
    if args.out:
        Image.fromarray(sheet(list(s.frames[::2]), 8)).save(args.out)
    if args.portrait:
        Image.fromarray(draw(s.character, Pose(), args.size)).save(args.portrait)
    if args.save:
        save(s, args.save, args.size)


if __name__ == "__main__":
    main()
