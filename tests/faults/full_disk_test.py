#!/usr/bin/env python3
"""full_disk_test.py PROGRAM SHIM: `generate --wait_disk` on a disk that is full for a time, or for good. The shim of
fault_shim.c plays the disk."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from jobs import SOURCE
from outcome import PARTIAL, Frames

PROGRAM, SHIM = None, None
PATIENCE_S = 60
NEVER = 0
SHORT_MS = 300


class Job:
    """A `generate` that runs, on a disk that takes so many bytes and has room again after a time."""

    def __init__(self, folder, video, *flags, room=None, free_after_ms=NEVER):
        self.folder, self.video = folder, folder / video
        folder.mkdir()
        where = "--output" if video.endswith(".m3u8") else "--save_file"
        line = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio",
                SOURCE / "assets/demo/voice.wav", "--prompt", "hi", "--size", "64*64", "--num_clip", 1,
                "--infer_frames", 96, "--sample_steps", 2, "--threads", 2, where, self.video, *flags]
        variables = {"LD_PRELOAD": str(SHIM), "FAULT_FOLDERS": str(folder), "FAULT_LOG": str(folder) + ".log"}
        if room is not None:
            variables["FAULT"] = f"space:{room}:{free_after_ms}"
        self.begin = time.monotonic()
        self.errors = open(str(folder) + ".errors", "w+")
        self.process = subprocess.Popen([str(part) for part in line], env={**os.environ, **variables},
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)

    def text(self):
        return Path(self.errors.name).read_text()

    def await_text(self, text):
        while text not in self.text():
            if self.process.poll() is not None or time.monotonic() - self.begin > PATIENCE_S:
                raise AssertionError(f"never said: {text}\n{self.text()}")
            time.sleep(0.02)

    def end(self):
        """-> exit code, lines of standard error, seconds"""
        try:
            code = self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.errors.close()
        return code, self.text().splitlines(), time.monotonic() - self.begin

    def files(self):
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*"))
                if path.is_file()}

    def written_bytes(self):
        return int(re.search(r"count space (\d+)", Path(str(self.folder) + ".log").read_text()).group(1))

    def resident_bytes(self):
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")


def errors_of(lines):
    return [line for line in lines if line.startswith("liveavatar: ")]


class FullDisk(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="full-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.count = 0

    def job(self, *line, **disk):
        self.count += 1
        job = Job(self.folder / f"job{self.count}", *line, **disk)
        for end in (job.errors.close, job.process.wait, job.process.kill):  # the last first
            self.addCleanup(end)
        return job

    def goes_on(self, video, *flags, offsets=(0, 0.02, 0.3, 0.6, 0.97)):
        """The same files as without a full disk, wherever that comes in."""
        whole = self.job(video, *flags)
        self.assertEqual(whole.end()[0], 0, whole.text())
        for share in offsets:
            room = int(share * whole.written_bytes())
            job = self.job(video, "--wait_disk", "1m", *flags, room=room, free_after_ms=SHORT_MS)
            code, lines, _ = job.end()
            self.assertEqual(code, 0, lines)
            self.assertEqual(job.files(), whole.files(), f"{room} of {whole.written_bytes()} bytes: {lines}")
            self.assertEqual(lines.count("note: there is room again; the job goes on"), 1, lines)

    def test_an_mp4_goes_on_at_the_same_byte(self):
        self.goes_on("talk.mp4")

    def test_a_matroska_file_goes_on_at_the_same_byte(self):
        self.goes_on("talk.mkv")

    def test_a_playlist_and_its_segments_go_on_at_the_same_byte(self):
        self.goes_on("talk.m3u8")

    def test_the_line_says_what_it_waits_for_and_how_much(self):
        job = self.job("talk.mp4", "--wait_disk", "90s", room=9000, free_after_ms=SHORT_MS)
        code, lines, _ = job.end()
        self.assertEqual(code, 0, lines)
        said = [line for line in lines if "the disk is full" in line]
        self.assertRegex(said[0], r"^note: \S+/talk\.mp4: the disk is full, and the job waits 1:30 at most for room: "
                                  r"(about )?\d+ MiB (at least|for the rest of it); Ctrl-C ends it$")

    def test_a_snapshot_without_room_does_not_end_the_job(self):
        flags = ["--resume", "--snapshot_every", 2]
        whole = self.job("talk.mp4", *flags)
        self.assertEqual(whole.end()[0], 0, whole.text())
        for share in (0.1, 0.5, 0.9):  # most of what is written is snapshots
            room = int(share * whole.written_bytes())
            job = self.job("talk.mp4", "--wait_disk", "1m", *flags, room=room, free_after_ms=SHORT_MS)
            code, lines, _ = job.end()
            self.assertEqual(code, 0, lines)
            self.assertEqual(job.files(), whole.files())
            self.assertTrue(any("no snapshot was written" in line for line in lines), lines)

    def test_a_disk_that_stays_full_ends_the_job_after_the_time(self):
        job = self.job("talk.mp4", "--wait_disk", "1s", "--report", self.folder / "report.json", room=40000)
        job.await_text("the disk is full")
        began = time.monotonic()
        code, lines, _ = job.end()
        self.assertTrue(0.8 <= time.monotonic() - began <= 10)
        self.assertEqual((code, len(errors_of(lines))), (1, 1), lines)
        said = re.search(r"the first (\d+) frames are safe", errors_of(lines)[0])
        sums, error = Frames.decode(job.video)
        self.assertEqual((len(sums), error), (int(said.group(1)), ""))

    def test_zero_ends_it_at_once_and_so_does_a_job_that_has_just_begun(self):
        for flags in (["--wait_disk", "0"], []):
            job = self.job("talk.mp4", *flags, room=10)
            code, lines, seconds = job.end()
            self.assertEqual((code, len(errors_of(lines))), (1, 1), lines)
            self.assertLess(seconds, 15)
            self.assertEqual(job.files(), {}, lines)

    def test_ctrl_c_ends_the_wait_at_once(self):
        for video in ("talk.mp4", "talk.m3u8"):
            job = self.job(video, "--wait_disk", "10m", room=9000)
            job.await_text("the disk is full")
            began = time.monotonic()
            job.process.send_signal(signal.SIGINT)
            code, lines, _ = job.end()
            self.assertLess(time.monotonic() - began, 3)
            self.assertEqual(code, 130, lines)
            self.assertTrue(lines[-1].startswith("stopped while the disk was full: "), lines)
            self.assertFalse([name for name in job.files() if PARTIAL in name])
            if job.video.exists():
                self.assertEqual(Frames.decode(job.video)[1], "")

    def test_memory_does_not_grow_while_it_waits(self):
        job = self.job("talk.mp4", "--wait_disk", "10m", room=9000)
        job.await_text("the disk is full")
        time.sleep(1)
        before = job.resident_bytes()
        time.sleep(3)
        self.assertLess(job.resident_bytes() - before, 1 << 20)

    def test_what_is_no_time_is_refused(self):
        for text in ("10", "long", "-5m", "5d"):
            code, lines, _ = self.job("talk.mp4", f"--wait_disk={text}").end()
            self.assertEqual(code, 2, lines)
            self.assertIn(f"--wait_disk {text}: is no time; write 90s, 10m, 2h, or 0", lines[-1])


if __name__ == "__main__":
    if shutil.which("ffmpeg") is None:
        print("full_disk_test: ffmpeg is missing, which says whether a video plays; skipped")
        sys.exit(77)
    SHIM, PROGRAM = Path(sys.argv.pop(2)).resolve(), Path(sys.argv.pop(1)).resolve()
    unittest.main()
