#!/usr/bin/env python3
"""stopped_test.py PROGRAM: a `generate` that is stopped for a time (Ctrl-Z, kill -STOP) goes on after it."""
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PROGRAM = None
PATIENCE_S = 60
STOPPED_S = 12
MOST_ETA_S = 20  # of a job that takes 1 s; an average over the stop would say a minute


class Run:
    """On a terminal, where the line of progress is shown ten times a second."""

    def __init__(self, video):
        line = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio",
                SOURCE / "assets/demo/voice.wav", "--prompt", "hi", "--size", "64*64", "--num_clip", 1,
                "--infer_frames", 240, "--sample_steps", 2, "--threads", 2, "--save_file", video]
        self.text = ""
        self.terminal, other = pty.openpty()
        self.process = subprocess.Popen([str(part) for part in line], stdin=subprocess.DEVNULL, stdout=other,
                                        stderr=other)
        os.close(other)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        try:
            while part := os.read(self.terminal, 1 << 16):
                self.text += part.decode(errors="replace")
        except OSError:
            pass  # the last writer is gone

    def etas(self):
        return [60 * int(minutes) + int(seconds) for minutes, seconds in re.findall(r"ETA (\d+):(\d\d) ", self.text)]

    def end(self):
        code = self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        os.close(self.terminal)
        return code


class Stopped(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="stopped-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_it_goes_on_and_tells_the_time_that_is_left(self):
        whole = Run(self.folder / "whole.mp4")
        self.assertEqual(whole.end(), 0, whole.text)
        run = Run(self.folder / "talk.mp4")
        end = time.monotonic() + PATIENCE_S
        while not run.etas() and time.monotonic() < end:
            time.sleep(0.005)
        run.process.send_signal(signal.SIGTSTP)
        time.sleep(STOPPED_S)
        self.assertEqual(Path(f"/proc/{run.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0], "T")
        before = len(run.etas())
        run.process.send_signal(signal.SIGCONT)
        self.assertEqual(run.end(), 0, run.text)
        self.assertGreater(len(run.etas()), before)
        self.assertLess(max(run.etas()), MOST_ETA_S, run.text)
        self.assertEqual((self.folder / "talk.mp4").read_bytes(), (self.folder / "whole.mp4").read_bytes())


if __name__ == "__main__":
    PROGRAM = Path(sys.argv.pop(1)).resolve()
    unittest.main()
