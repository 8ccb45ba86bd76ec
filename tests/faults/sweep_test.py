#!/usr/bin/env python3
"""sweep_test.py SHIM: the shim fails the call it is told to, and the judge sees what a run must not leave."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from jobs import Job
from outcome import Frames, Judge, Outcome
from sweep import Runner

SHIM = None
# Reads a file below OUT and writes another: with errors that it reports, or (careless) overlooks.
PROGRAM = """
import os, sys
careful, out = sys.argv[1] == "careful", sys.argv[2]
try:
    read = os.open(out + "/in", os.O_RDONLY)
    data = os.read(read, 100)
    file = os.open(out + "/out", os.O_WRONLY | os.O_CREAT)
    done = 0
    while done < len(data):
        done += os.write(file, data[done:])
    os.fsync(file)
except OSError as error:
    if careful:
        if os.path.exists(out + "/out"):
            os.remove(out + "/out")
        sys.exit(f"liveavatar: {error.strerror}; try again")
"""


class Sweeping(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="faults-")
        self.addCleanup(self.folder.cleanup)
        self.runs = 0

    def run_with(self, fault, how="careful"):
        self.runs += 1
        out = Path(self.folder.name) / f"run{self.runs}"
        out.mkdir()
        job = Job("copy", ["-c", PROGRAM, how, "OUT"], [], whole=["out"], before={"in": "some text"})
        return job, Runner(sys.executable, SHIM).run(job, out, fault), out

    def problems(self, fault, how="careful", must_survive=False):
        job, clean, folder = self.run_with(None, how)
        self.assertEqual((clean.code, clean.files["out"]), (0, b"some text"))
        _, outcome, out = self.run_with(fault, how)
        self.assertTrue(fault.startswith("limit") or outcome.hits, fault)
        return Judge(job, clean, Frames(), folder).problems(outcome, must_survive, out)

    def test_counts_calls_on_files_below_the_folders_alone(self):
        counts = self.run_with(None)[1].counts
        self.assertEqual([counts[kind] for kind in ("read", "write", "sync", "space")], [1, 1, 1, 9])
        self.assertEqual(counts["open"], 2)

    def test_a_careful_program_passes(self):
        for fault in ("read:1:5", "open:1:5", "open:2:28", "write:1:28+", "sync:1:5", "space:4:0", "limit:3:"):
            self.assertEqual(self.problems(fault), [], fault)

    def test_what_moves_a_part_is_survived(self):
        self.assertEqual(self.problems("write:1:short", must_survive=True), [])

    def test_a_file_that_ends_early_is_seen(self):
        self.assertIn("success with a damaged out", self.problems("read:1:end+"))

    def test_an_error_that_is_overlooked_is_seen(self):
        self.assertIn("success with a damaged out", self.problems("space:4:0", "careless"))
        self.assertIn("success without out", self.problems("open:2:5", "careless"))

    def test_failing_where_it_must_not_is_seen(self):
        self.assertIn("fails for what must be survived", self.problems("sync:1:5", must_survive=True))

    def test_the_judge_wants_one_line_that_says_what_to_do(self):
        self.assertEqual(Judge.of_lines(["liveavatar: a: is full; make room"]), [])
        self.assertTrue(Judge.of_lines([]))
        self.assertTrue(Judge.of_lines(["liveavatar: a; b", "liveavatar: c; d"]))
        self.assertTrue(Judge.of_lines(["terminate called"]))

    def test_what_is_left_over_is_seen(self):
        job = Job("none", [], [])
        judge = Judge(job, Outcome(0, b"", [], {"a": b""}), Frames(), Path("."))
        for name in ("a.liveavatar-partial", "liveavatar-Xyz123", "core"):
            self.assertTrue(judge.leftovers(Outcome(1, b"", [], {name: b""})), name)


if __name__ == "__main__":
    SHIM = Path(sys.argv.pop(1)).resolve()
    unittest.main()
