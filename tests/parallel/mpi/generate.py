"""`liveavatar generate` of the mini model under mpirun: its processes, what it says, and its file."""
import os
import random
import re
import subprocess
import time
from pathlib import Path

from mpirun import Run, is_running

ROOT = Path(__file__).resolve().parents[3]
MARK = "LA_TEST_RUN"  # a variable that all processes of a run have


def arguments(model, file, size="64*64", clips=2, **others):
    """Of a job; others: more flags, as seed=1"""
    flags = {"ckpt_dir": model, "image": ROOT / "assets/demo/portrait.png", "audio": ROOT / "assets/demo/voice.wav",
             "prompt": "talking", "size": size, "infer_frames": 48, "num_clip": clips, "threads": 1,
             "save_file": file, **others}
    return ["generate", *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


def environment_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = (entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
            return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in entries}
    except OSError:
        return {}  # it ended, or is not ours


def command_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class GenerateRun(Run):
    """program: the words of a command, behind mpirun's own"""

    def __init__(self, ranks, program, options=(), before=()):
        self.mark = f"{os.getpid()}-{random.randrange(1 << 60)}"
        super().__init__(ranks, program, ["--bind-to", "none", *options], before, {MARK: self.mark})
        self.began = time.monotonic()

    def processes(self):
        """-> {pid: environment} of all that live: mpirun, its helpers, the ranks and what they started"""
        numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
        all_of_them = {pid: environment_of(pid) for pid in numbers}
        return {pid: each for pid, each in all_of_them.items() if each.get(MARK) == self.mark and is_running(pid)}

    def rank_pids(self, ranks, program, limit_s=10):
        """-> {rank: pid} as soon as all have begun"""
        until = time.monotonic() + limit_s
        while time.monotonic() < until and self.process.poll() is None:
            found = {int(each["OMPI_COMM_WORLD_RANK"]): pid for pid, each in self.processes().items()
                     if "OMPI_COMM_WORLD_RANK" in each and command_of(pid).startswith(str(program))}
            if len(found) == ranks:
                return found
            time.sleep(0.005)
        raise AssertionError(f"not all ranks began:\n{self.text()}")

    def left_over(self, limit_s):
        """-> what lives limit_s from now, as texts"""
        until = time.monotonic() + limit_s
        left = self.processes()
        while left and time.monotonic() < until:
            time.sleep(0.02)
            left = self.processes()
        return [f"{pid} (rank {each.get('OMPI_COMM_WORLD_RANK', '-')}): {command_of(pid)[:60]}"
                for pid, each in left.items()]

    def kill_all(self):
        self.clean_up(self.processes())

    def errors(self):
        """The program's errors; not what it says of a stop, nor mpirun's lines"""
        return [line for line in re.findall(r"^liveavatar: .*", self.text(), re.M) if ": stopping: " not in line]


def decoded(file):
    """-> (frames, what FFmpeg says) of a file"""
    done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), "-map", "0:v", "-f", "framemd5", "-"],
                          capture_output=True, text=True, check=False)
    frames = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return frames, done.stderr.strip() or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def check_plays(file, whole=True):
    """If there is a file. whole: to its last byte; else up to a place where the disk was full."""
    if file.exists():
        frames, errors = decoded(file)
        assert frames and (not errors or not whole), f"{len(frames)} frames: {errors}"
