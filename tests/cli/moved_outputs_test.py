#!/usr/bin/env python3
"""moved_outputs_test.py PROGRAM: somebody moves, removes or cuts what `generate` is writing."""
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PROGRAM = None
PATIENCE_S = 60
PARTIAL = ".liveavatar-partial"


class Job:
    """A `generate` that is stopped while it writes, and goes on after it."""

    def __init__(self, folder, video, *flags):
        where = "--output" if video.name.endswith(".m3u8") else "--save_file"
        line = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio",
                SOURCE / "assets/demo/voice.wav", "--prompt", "hi", "--size", "64*64", "--num_clip", 1,
                "--infer_frames", 240, "--sample_steps", 2, "--threads", 2, where, video, *flags]
        self.errors = open(folder / "errors.txt", "w+")
        self.process = subprocess.Popen([str(part) for part in line], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.errors)

    def stop_when(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("never came so far: " + Path(self.errors.name).read_text())
            time.sleep(0.005)
        self.process.send_signal(signal.SIGSTOP)

    def end(self):
        """-> exit code, lines of standard error"""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        try:
            code = self.process.wait(PATIENCE_S)
        finally:
            self.kill()
        return code, Path(self.errors.name).read_text().splitlines()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


def size_of(path):
    return path.stat().st_size if path.exists() else 0


class MovedOutputs(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="moved-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.old, self.new = self.folder / "old", self.folder / "new"
        self.old.mkdir()

    def job(self, video, *flags):
        job = Job(self.folder, video, *flags)
        self.addCleanup(job.kill)
        return job

    def whole(self, name, *flags):
        """-> the files of a job that is left alone"""
        folder = self.folder / "whole"
        folder.mkdir()
        code, lines = self.job(folder / name, *flags).end()
        self.assertEqual(code, 0, lines)
        return self.files(folder)

    def files(self, folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
                if path.is_file() and path.suffix != ".snapshot"}

    def end(self, job):
        """A job that fails -> its one line of error; no line claims a video."""
        code, lines = job.end()
        self.assertEqual(code, 1, lines)
        errors = [line for line in lines if line.startswith("liveavatar: ")]
        self.assertEqual(len(errors), 1, lines)
        self.assertFalse([line for line in lines if " at 25 fps" in line], lines)
        return errors[0]

    def begun(self, *flags, name="talk.mp4"):
        """A job that is stopped with some of its video written."""
        job = self.job(self.old / name, *flags)
        first = self.old / name.replace(".m3u8", "-00000.ts")
        job.stop_when(lambda: size_of(first) > 4096)
        return job

    def test_a_folder_that_is_renamed_has_the_whole_video(self):
        whole = self.whole("talk.mp4")
        job = self.begun()
        self.old.rename(self.new)
        self.assertEqual(self.end(job), f"liveavatar: --save_file {self.old}/talk.mp4: was moved while the job ran; "
                                        f"what it wrote is whole and is {self.new}/talk.mp4")
        self.assertEqual(self.files(self.new), whole)
        self.assertFalse(self.old.exists())

    def test_a_folder_that_is_removed_ends_the_job_soon(self):
        job = self.begun()
        shutil.rmtree(self.old)
        self.assertIn("was removed while the job ran, and what it wrote with it; run it again", self.end(job))
        self.assertFalse(self.old.exists())

    def test_a_file_that_is_renamed_is_whole_where_it_is(self):
        whole = self.whole("talk.mp4")
        job = self.begun()
        (self.old / "talk.mp4").rename(self.old / "mine.mp4")
        self.assertTrue(self.end(job).endswith(f"is whole and is {self.old}/mine.mp4"))
        self.assertEqual(self.files(self.old), {"mine.mp4": whole["talk.mp4"]})

    def test_a_file_that_is_removed_or_replaced_ends_the_job_and_the_other_is_kept(self):
        for other in (None, b"of somebody else"):
            job = self.begun()
            video = self.old / "talk.mp4"
            video.unlink()
            if other:
                video.write_bytes(other)
            self.assertIn("was removed while the job ran", self.end(job))
            self.assertEqual(self.files(self.old), {"talk.mp4": other} if other else {})
            video.unlink(missing_ok=True)

    def test_a_file_that_is_cut_ends_the_job(self):
        job = self.begun()
        with open(self.old / "talk.mp4", "r+b") as video:
            video.truncate(100)
        self.assertRegex(self.end(job), r"another program cut it to 100 of its \d+ bytes while the job ran; run it ")

    def test_a_resumable_job_goes_on_where_its_folder_is_now(self):
        flags = ["--resume", "--snapshot_every", 2]
        whole = self.whole("talk.mp4", *flags)
        job = self.begun(*flags)
        self.old.rename(self.new)
        self.assertIn(f"is whole and is {self.new}/talk.mp4", self.end(job))
        self.assertEqual(self.files(self.new), whole)
        self.assertTrue(list((self.new / "talk.mp4.snapshots").iterdir()))
        code, lines = self.job(self.new / "talk.mp4", *flags).end()
        self.assertEqual((code, self.files(self.new)), (0, whole), lines)
        self.assertEqual([path.name for path in self.new.iterdir()], ["talk.mp4"])

    def test_snapshots_that_are_removed_do_not_end_the_job(self):
        flags = ["--resume", "--snapshot_every", 2]
        whole = self.whole("talk.mp4", *flags)
        job = self.begun(*flags)
        shutil.rmtree(self.old / "talk.mp4.snapshots")
        code, lines = job.end()
        self.assertEqual(code, 0, lines)
        self.assertTrue([line for line in lines if "no snapshot was written" in line], lines)
        self.assertEqual(self.files(self.old), whole)

    def test_a_playlist_goes_on_where_its_folder_is_now(self):
        whole = self.whole("talk.m3u8")
        job = self.begun(name="talk.m3u8")
        self.old.rename(self.new)
        self.assertIn(f"is whole and is {self.new}/talk.m3u8", self.end(job))
        self.assertEqual(self.files(self.new), whole)
        self.assertFalse(self.old.exists())

    def test_a_playlist_whose_folder_or_segment_is_removed_fails(self):
        job = self.begun(name="talk.m3u8")
        (self.old / "talk-00000.ts").unlink()
        self.assertIn("its segment talk-00000.ts was removed while the job ran; run it again", self.end(job))
        shutil.rmtree(self.old)
        self.old.mkdir()
        job = self.begun(name="talk.m3u8")
        shutil.rmtree(self.old)
        self.assertIn("talk", self.end(job))
        self.assertFalse(self.old.exists())

    def test_a_report_follows_its_folder_too(self):
        reports, moved = self.folder / "reports", self.folder / "moved"
        reports.mkdir()
        job = self.begun("--report", reports / "run.json")
        reports.rename(moved)
        code, lines = job.end()
        errors = [line for line in lines if line.startswith("liveavatar: ")]
        self.assertEqual(code, 1, lines)
        self.assertEqual(errors, [f"liveavatar: --report {reports}/run.json: was moved while the job ran; what it wrote "
                                  f"is whole and is {moved}/run.json"])
        self.assertTrue((moved / "run.json").read_text().rstrip().endswith("}"))
        (self.old / "talk.mp4").unlink()
        job = self.begun("--report", moved / "run.json")
        shutil.rmtree(moved)
        code, lines = job.end()
        errors = [line for line in lines if line.startswith("liveavatar: ")]
        self.assertEqual((code, len(errors)), (1, 1), lines)
        self.assertIn(f"--report {moved}/run.json: the folder {moved} is not there", errors[0])

    def test_nothing_half_made_is_left(self):
        (self.old / "talk.mp4").write_bytes(b"an older video")
        job = self.job(self.old / "talk.mp4")
        job.stop_when(lambda: (self.old / ("talk.mp4" + PARTIAL)).exists())
        self.old.rename(self.new)
        job.end()
        self.assertEqual([path.name for path in self.new.iterdir()], ["talk.mp4"])


if __name__ == "__main__":
    PROGRAM = Path(sys.argv.pop(1)).resolve()
    unittest.main()
