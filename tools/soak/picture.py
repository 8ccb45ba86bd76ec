"""What a finished video is worth: length, sound against picture, and whether the portrait is still itself."""
import json
import subprocess

import numpy as np

FPS = 25
SAMPLED_FRAMES = 250  # of every minute
UPPER = 0.55          # of the picture: above the mouth, as in tools/mini/measure.py


def last_end_s(video, stream):
    """Where the last packet of a stream ends, "a" or "v"."""
    out = subprocess.run(["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries",
                          "packet=pts_time,duration_time", "-of", "json", video],
                         capture_output=True, check=True).stdout
    return max(float(p["pts_time"]) + float(p["duration_time"]) for p in json.loads(out)["packets"])


def size_of(video):
    out = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height",
                          "-of", "json", video], capture_output=True, check=True).stdout
    stream = json.loads(out)["streams"][0]
    return stream["width"], stream["height"]


def frames_of(file, width, height):
    """[H, W, 3] u8 each"""
    command = ["ffmpeg", "-v", "error", "-i", file, "-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt",
               "rgb24", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while len(data := process.stdout.read(width * height * 3)) == width * height * 3:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def distance(total, count, portrait):
    """RMS difference, of 255, between the mean of frames and the portrait, above the mouth."""
    rows = int(portrait.shape[0] * UPPER)
    return float(np.sqrt(((total / count - portrait)[:rows] ** 2).mean()))


def judge(video, portrait_file):
    """-> figures of the video"""
    width, height = size_of(video)
    portrait = next(frames_of(portrait_file, width, height)).astype(np.float32)
    minutes, total, frames = [], np.zeros_like(portrait), 0
    for frame in frames_of(video, width, height):
        at = frames % (60 * FPS)
        frames += 1
        if at >= SAMPLED_FRAMES:
            continue
        total += frame
        if at == SAMPLED_FRAMES - 1:
            minutes.append(round(distance(total, SAMPLED_FRAMES, portrait), 3))
            total[:] = 0
    ends_s = {stream: last_end_s(video, stream) for stream in "va"}
    return {"frames": frames, "video_end_s": ends_s["v"], "sound_end_s": ends_s["a"],
            "offset_ms": round(1000 * (ends_s["a"] - ends_s["v"]), 3), "identity_each_minute": minutes}
