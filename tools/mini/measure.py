"""What can be read off a video of a known character: mouth opening, mood, gaze, identity, colour, motion.

Frames are [T, S, S, 3] u8. A face is compared with templates: the character drawn in known poses and passed through the VAE, whose
softness must not count as a pose.
"""

import numpy as np
import torch

import vae
from character import EYE_Y, MOODS, MOUTH_Y, Pose, draw
from world import LOOKS

OPENINGS, WIDTHS = np.linspace(0, 1, 13), (-0.6, 0.5)
STILL_FRAMES = 5
KINDS = [(mood, look) for mood in MOODS for look in LOOKS]


def to_frames(video):
    """[B, 3, T, S, S] -> [B, T, S, S, 3] u8."""
    return ((video.permute(0, 2, 3, 4, 1).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


@torch.no_grad()
def coded(codec, clips):
    """clips [B, T, S, S, 3] u8 -> the same after the VAE. Never a single one: PyTorch 2 is many times slower with a batch of one."""
    pair = np.concatenate([clips, clips]) if len(clips) == 1 else clips
    return to_frames(codec.decode(codec.encode(vae.to_video(pair))))[:len(clips)]


@torch.no_grad()
def through_vae(codec, frames, still):
    """frames as the VAE decodes them, after some frames of the static image, as in the engine."""
    lead = np.repeat(still[None], STILL_FRAMES, 0)
    return coded(codec, np.concatenate([lead, frames])[None])[0, STILL_FRAMES:]


def pictures(codec, c, poses, size):
    """-> [len(poses), S, S, 3] f32: each pose held still, as the VAE shows it."""
    stills = np.stack([np.repeat(draw(c, p, size)[None], STILL_FRAMES, 0) for p in poses])
    return np.concatenate([coded(codec, part)[:, -1] for part in np.array_split(stills, max(1, len(stills) // 8))]).astype(np.float32)


def _box(c, size, y, half_width, up, down):
    """Of a feature `y` below the head's centre -> top, left, height, width in pixels."""
    scale = c["scale"] * size
    middle_y, middle_x = c["cy"] * size + y * scale, c["cx"] * size
    return (int(middle_y - up * scale), int(middle_x - half_width * scale), int((up + down) * scale), int(2 * half_width * scale))


def distances(frames, templates, box, reach):
    """-> [T, N] f32: least squared distance over shifts of up to `reach` pixels."""
    top, left, height, width = box
    cut = lambda pictures, dy, dx: torch.from_numpy(pictures[:, top + dy:top + dy + height, left + dx:left + dx + width].astype(np.float32)).flatten(1)
    flat = cut(templates, 0, 0)
    middle = flat.mean(0)  # taken off both: small numbers keep their differences
    flat, best = flat - middle, torch.full((len(frames), len(templates)), np.inf)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            f = cut(frames, dy, dx) - middle
            best = torch.minimum(best, f.square().sum(1, keepdim=True) - 2 * f @ flat.T + flat.square().sum(1))
    return best.numpy()


def mouth_templates(codec, c, mood, size):
    """-> [moods * openings * widths, S, S, 3]: at rest and in the mood."""
    moods = ["neutral"] + [mood] * (mood != "neutral")
    return pictures(codec, c, [Pose(opening=float(o), width=w, **({} if m == "neutral" else {m: 1.0})) for m in moods for o in OPENINGS for w in WIDTHS], size)


def openings(templates, frames, c):
    """Mouth opening of each frame, 0..1, by the nearest of mouth_templates and a parabola through its neighbours."""
    size = frames.shape[1]
    d = distances(frames, templates, _box(c, size, MOUTH_Y, 0.16, 0.07, 0.18), size // 32)
    d = d.reshape(len(d), -1, len(OPENINGS), len(WIDTHS)).min((1, 3))
    i = d.argmin(1).clip(1, len(OPENINGS) - 2)
    rows = np.arange(len(d))
    a, b, e = d[rows, i - 1], d[rows, i], d[rows, i + 1]
    step = ((a - e) / np.maximum(2 * (a - 2 * b + e), 1e-6)).clip(-1, 1)
    return ((i + step) / (len(OPENINGS) - 1)).clip(0, 1)


def look_templates(codec, c, size):
    """-> [12, S, S, 3]: every mood and look, in the order of KINDS."""
    poses = [Pose(gaze_x=LOOKS[look], dx=0.012 * LOOKS[look], turn=1.5 * LOOKS[look], **({} if mood == "neutral" else {mood: 1.0})) for mood, look in KINDS]
    return pictures(codec, c, poses, size)


def mood_and_look(templates, frames, c):
    """What most of the frames show."""
    size = frames.shape[1]
    votes = np.bincount(distances(frames, templates, _box(c, size, EYE_Y, 0.22, 0.15, 0.07), size // 42).argmin(1), minlength=len(KINDS))
    return KINDS[int(votes.argmax())]


def correlation(a, b, lag=0):
    """Of a[t + lag] with b[t]; a flat track correlates with nothing."""
    x, y = a[max(0, lag):len(a) + min(0, lag)], b[max(0, -lag):len(b) - max(0, lag)]
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 1e-6 and y.std() > 1e-6 else 0.0


def psnr_db(a, b):
    return float(-10 * np.log10(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean() / 255**2))


def motion(frames):
    """Mean absolute difference between successive frames, of 255."""
    f = frames.astype(np.float32)
    return float(np.abs(f[1:] - f[:-1]).mean())


def sharpness(frames):
    """Mean absolute difference between neighbouring pixels, of 255."""
    f = frames.astype(np.float32)
    return float((np.abs(np.diff(f, axis=1)).mean() + np.abs(np.diff(f, axis=2)).mean()) / 2)


def identity_distance(frames, portrait):
    """RMS difference, of 255, between the frames' mean image and the portrait, above the mouth."""
    upper = int(portrait.shape[0] * 0.55)
    return float(np.sqrt(((frames.astype(np.float32).mean(0) - portrait)[:upper] ** 2).mean()))
