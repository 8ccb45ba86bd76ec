#!/usr/bin/env python3
"""stopped_test.py PROGRAM: a `generate` that is stopped for a time (Ctrl-Z, kill -STOP) goes on after it."""
import re
import shutil
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/resume"))

from resumed_job import Run  # noqa: E402

PROGRAM = None
PATIENCE_S = 60
STOPPED_S = 12
MOST_ETA_S = 20  # of a job that takes 1 s; an average over the stop would say a minute


class Job(Run):
    """On a terminal, where the line of progress is shown ten times a second."""

    def __init__(self, video):
        super().__init__([PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio",
                          SOURCE / "assets/demo/voice.wav", "--prompt", "hi", "--size", "64*64", "--num_clip", 1,
                          "--infer_frames", 240, "--sample_steps", 2, "--threads", 2, "--save_file", video],
                         video.parent, {})

    def etas(self):
        return [60 * int(minutes) + int(seconds) for minutes, seconds in re.findall(r"ETA (\d+):(\d\d) ", self.text)]


class Stopped(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="stopped-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_it_goes_on_and_tells_the_time_that_is_left(self):
        whole = Job(self.folder / "whole.mp4")
        self.assertEqual(whole.end(PATIENCE_S), 0, whole.text)
        run = Job(self.folder / "talk.mp4")
        end = time.monotonic() + PATIENCE_S
        while not run.etas() and time.monotonic() < end:
            time.sleep(0.005)
        run.process.send_signal(signal.SIGTSTP)
        time.sleep(STOPPED_S)
        self.assertEqual(Path(f"/proc/{run.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0], "T")
        before = len(run.etas())
        run.process.send_signal(signal.SIGCONT)
        self.assertEqual(run.end(PATIENCE_S), 0, run.text)
        self.assertGreater(len(run.etas()), before)
        self.assertLess(max(run.etas()), MOST_ETA_S, run.text)
        self.assertEqual((self.folder / "talk.mp4").read_bytes(), (self.folder / "whole.mp4").read_bytes())


if __name__ == "__main__":
    PROGRAM = Path(sys.argv.pop(1)).resolve()
    unittest.main()
