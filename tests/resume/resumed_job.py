"""A `liveavatar generate --resume` that is killed, and what its video is worth."""
import math
import os
import pty
import re
import subprocess
import threading
import time
import wave
from pathlib import Path

FPS = 25
SEGMENT_FRAMES = 24  # kSegmentFrames: a run goes on at a multiple of them
MOST_LOST = 25  # frames
PARTIAL = ".liveavatar-partial"
NO_SNAPSHOT = "is there and has no snapshot"
VIDEO = "talk.mp4"


class Failure(Exception):
    """Of the program, in words."""


def make_voice(source, file, seconds):
    """Says the same again until the time is up."""
    with wave.open(str(source)) as voice:
        form, frames = voice.getparams(), voice.readframes(voice.getnframes())
    count = int(seconds * form.framerate) * form.sampwidth * form.nchannels
    with wave.open(str(file), "wb") as out:
        out.setparams(form)
        out.writeframes((frames * (count // len(frames) + 1))[:count])


def seconds_of(clock):
    """Of "1:02:03" or "2:03"."""
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds


class Run:
    """One process. On a terminal of its own, since there it says how far it is ten times a second."""

    def __init__(self, command, folder, variables):
        self.text, self.begin = "", time.monotonic()
        self.terminal, other = pty.openpty()
        self.process = subprocess.Popen([str(part) for part in command], cwd=folder, stdin=subprocess.DEVNULL,
                                        stdout=other, stderr=other, env={**os.environ, **variables})
        os.close(other)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        """A terminal whose last writer is gone gives an error, not an end."""
        try:
            while part := os.read(self.terminal, 1 << 16):
                self.text += part.decode(errors="replace")
        except OSError:
            pass
        os.close(self.terminal)

    def wait(self, seconds):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.reader.join()
        return True

    def end(self, patience_s):
        """-> its exit code"""
        if not self.wait(patience_s):
            self.kill()
            raise Failure(f"does not end within {patience_s:.0f} s: {self.last_line()}")
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def kill_after(self, seconds):
        """-> whether it still ran"""
        ended = self.wait(seconds)
        if not ended:
            self.kill()
        return not ended and self.process.returncode == -9

    def kill_behind_last_block(self, seconds):
        while not self.is_at_last_block() and not self.wait(0.002):
            pass
        return self.kill_after(seconds)

    def is_at_last_block(self):
        return re.search(r"block (\d+)/\1\b.*frames/s", self.text) is not None

    def delivered_frames(self):
        """At least: it says whole seconds, rounded. The block that it says may be several ahead of the video."""
        clocks = re.findall(r"video ([\d:]+) of", self.text)
        return max([math.ceil((seconds_of(clock) - 0.5) * FPS) for clock in clocks], default=0)

    def frames_before(self):
        """Where it went on. It says so in tenths of a second."""
        said = re.search(r"goes on behind ([\d.]+) of", self.text)
        return round(float(said[1]) * FPS / SEGMENT_FRAMES) * SEGMENT_FRAMES if said else 0

    def last_line(self):
        lines = [line for line in re.split(r"[\r\n]+", self.text) if line.strip()]
        return lines[-1] if lines else "(it said nothing)"


def play(file):
    """-> how many frames a player shows, and what it complains of"""
    count = subprocess.run(["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries",
                            "stream=nb_read_frames", "-of", "csv=p=0", str(file)], capture_output=True, text=True)
    shown = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), "-f", "null", "-"],
                           capture_output=True, text=True)
    complaints = (shown.stdout + shown.stderr).strip()
    number = count.stdout.strip().strip(",")
    return int(number) if number.isdigit() else 0, complaints or ("" if shown.returncode == 0 else "exit code")


def check_video(file, delivered, certain=None):
    """-> how many of the delivered frames are lost. certain: so many bytes of the file a power cut cannot take; what is
    behind them may be damaged, and is no fault if the file plays without it."""
    there = file.exists() and file.stat().st_size > 0
    frames, complaints = play(file) if there else (0, "")
    if there and complaints:  # a kill may tear the fragment that is being written
        frames, complaints = play_part(file, whole_fragments(file) if certain is None else certain)
    if complaints:
        raise Failure(f"the video does not play: {complaints.splitlines()[0]} ({frames} frames)")
    if delivered - frames >= MOST_LOST:
        raise Failure(f"{delivered - frames} of {delivered} frames are lost")
    return max(delivered - frames, 0)


def whole_fragments(file):
    """-> bytes up to the end of the last fragment that has all of its data."""
    data, at, end = file.read_bytes(), 0, 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        if size < 8 or at + size > len(data):
            break
        at += size
        if data[at - size + 4:at - size + 8] != b"moof":
            end = at
    return end


def play_part(file, count):
    if count == 0:
        return 0, ""
    part = file.with_name("part.mp4")
    part.write_bytes(file.read_bytes()[:count])
    played = play(part)
    part.unlink()
    return played
