#!/usr/bin/env python3
"""video.py PROGRAM [--seconds 10000]: one long video with snapshots, and what its process holds meanwhile.

Writes a line of JSON for each sample into FOLDER/video.jsonl, and at the end what the video is worth (picture.py,
which needs numpy).
"""
import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from picture import judge
from process import records, sample
from voice import SOURCE, write_voice

sys.path.insert(0, str(SOURCE / "tests/resume"))
from resumed_job import seconds_of  # noqa: E402

PORTRAIT = SOURCE / "assets/demo/portrait.png"
PROMPT = "A friendly cartoon character talks to the camera."


def command_of(options, folder):
    return [str(part) for part in (
        Path(options.program).resolve(), "generate", "--ckpt_dir", SOURCE / "models/mini", "--image", PORTRAIT,
        "--audio", folder / "voice.wav", "--prompt", PROMPT, "--size", options.size, "--memory_budget", options.budget,
        "--resume", "--save_file", folder / "talk.mp4", "--report", folder / "report.json")]


def seconds_done(log):
    """Of video, by the line of progress, which comes every 5 s."""
    clocks = re.findall(r"video ([\d:]+) of", log.read_text(errors="replace")[-2000:])
    return seconds_of(clocks[-1]) if clocks else 0


def watch(options, folder, write):
    """-> exit code"""
    log, begin = folder / "generate.log", time.monotonic()
    with open(log, "w") as text:
        process = subprocess.Popen(command_of(options, folder), stdout=text, stderr=subprocess.STDOUT)
    while True:
        try:
            code = process.wait(options.every)
            return code, time.monotonic() - begin
        except subprocess.TimeoutExpired:
            figures = sample(process.pid)
        if figures:
            snapshots = sorted(folder.glob("talk.mp4.snapshots/*.snapshot"))
            write(kind="sample", t_s=round(time.monotonic() - begin, 1), video_s=seconds_done(log),
                  snapshots=len(snapshots), **figures)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=int, default=10000, help="of video")
    parser.add_argument("--size", default="64*64")
    parser.add_argument("--budget", default="96MiB")
    parser.add_argument("--every", type=float, default=30, help="seconds between samples")
    parser.add_argument("--folder", default="build/soak", help="for all files")
    return parser.parse_args()


def main():
    options = parse_options()
    folder = Path(options.folder).resolve()
    with records(folder / "video.jsonl") as write:
        turns = write_voice(folder / "voice.wav", options.seconds)
        write(kind="run", run="video", seconds=options.seconds, size=options.size, budget=options.budget,
              every_s=options.every, turns=len(turns))
        code, wall_s = watch(options, folder, write)
        report = json.loads((folder / "report.json").read_text()) if code == 0 else {}
        picture = judge(folder / "talk.mp4", PORTRAIT) if code == 0 else {}
        write(kind="end", exit_code=code, wall_s=round(wall_s, 1), report=report, picture=picture)
    return code


if __name__ == "__main__":
    sys.exit(main())
