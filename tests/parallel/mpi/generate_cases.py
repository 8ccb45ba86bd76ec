#!/usr/bin/env python3
"""generate_cases.py PROGRAM MODEL: what can be wrong with a `liveavatar generate` on several ranks.

Every time: an end, one line, the exit code of a single process, no process left over, and a file that plays or none.
"""
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from generate import GenerateRun, arguments, check_plays
from mpirun import need_mpirun

LIMIT_S = 20  # a job of some seconds, and mpirun's end


class Cases:
    def __init__(self, program, model, folder):
        self.program = program
        self.model = model
        self.file = folder / "video.mp4"
        self.job = [program, *arguments(model, self.file)]

    def alone(self, words):
        """-> (exit code, lines) of one process"""
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        return done.returncode, done.stderr.splitlines()

    def on_ranks(self, what, words, ranks=3, whole=True):
        """-> (exit code, all lines that are not mpirun's, the errors among them)"""
        self.file.unlink(missing_ok=True)
        run = GenerateRun(ranks, words)
        try:
            began = time.monotonic()
            code = run.end(LIMIT_S)
            left = run.left_over(2)
            print(f"{what}: end after {time.monotonic() - began:.1f} s, code {code}: {run.errors()}", flush=True)
            assert not left, f"left over: {left}"
            check_plays(self.file, whole)
            return code, run.text(), run.errors()
        finally:
            run.kill_all()

    def fails(self, what, words, line, code, ranks=3, whole=True):
        got, text, errors = self.on_ranks(what, words, ranks, whole)
        assert len(errors) == 1 and re.search(line, errors[0]), text
        assert got == code, f"exit code {got}, not {code}:\n{text}"

    def fails_as_alone(self, what, flags, job=None):
        """Before a rank begins to work: the same line as without mpirun, and its code."""
        words = (job or self.job) + flags
        code, lines = self.alone(words)
        errors = [line for line in lines if line.startswith("liveavatar: ")]
        assert code in (1, 2) and len(errors) == 1, f"alone: {code} {lines}"
        self.fails(what, words, "^" + re.escape(errors[0]) + "$", code)

    def one_differs(self, what, flags, line, code, differs=1, command=(), whole=True):
        """One of two ranks has these flags, or is started by a command"""
        each = [[*command, *self.job, *flags] if rank == differs else self.job for rank in range(2)]
        self.fails(what, [*each[0], ":", "-np", "1", *each[1]], line, code, 1, whole)

    def usage(self):
        self.fails_as_alone("an unknown flag", ["--prmpt", "hello"])
        self.fails_as_alone("a wrong value", ["--ulysses_size", "many"])
        self.fails_as_alone("a wrong size", ["--size", "64x"])
        self.fails_as_alone("no portrait", ["--image", "/nowhere/portrait.png"])
        self.fails_as_alone("no voice", ["--audio", "/nowhere/voice.wav"])
        self.fails_as_alone("no model", ["--ckpt_dir", "/nowhere/model"])
        self.fails_as_alone("no folder for the file", ["--save_file", "/nowhere/video.mp4"])
        self.fails_as_alone("no required flag", [], [self.program, "generate", "--audio", "voice.wav"])
        self.fails("a budget that is too small", [*self.job, "--memory_budget", "1MiB"], "^liveavatar: .*budget", 1)
        self.fails("devices of one process", [*self.job, "--devices", "cpu:3"], "^liveavatar: --devices under mpirun",
                   2)
        self.fails("more stages than steps", [*self.job, "--num_gpus_dit", "9"], "--num_gpus_dit", 2)

    def help(self):
        for flag in ("--help", "--version"):
            words = [self.program, "generate", flag] if flag == "--help" else [self.program, flag]
            code, text, errors = self.on_ranks(flag, words)
            alone = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            assert code == 0 and not errors and text.strip() == alone.strip(), text

    def ranks_that_differ(self):
        other = r"^liveavatar: rank 1 \(\S+, cpu\): .*"
        self.one_differs("a rank without the model", ["--ckpt_dir", "/nowhere/model"], other + "/nowhere/model", 1)
        self.one_differs("a rank with other weights", ["--weights_dtype", "int8"], other + "int8", 2)
        self.one_differs("a rank with other types", ["--dtype", "f32"], other + "f32", 2)
        words = [*self.job, ":", "-np", "1", *self.job, "--ulysses_size", "2"]
        code, text, errors = self.on_ranks("a rank with other stages: the lead decides", words, 1)
        assert code == 0 and not errors, text
        for who, differs in (("a rank", 1), ("the lead", 0)):
            self.one_differs(f"{who} with a share of the weights", ["--dit_fsdp"], other + "layers dealt to the ranks",
                             2, differs)
        words = [*self.job, "--dit_fsdp", "--enable_vae_parallel", ":", "-np", "2", *self.job, "--dit_fsdp"]
        self.fails("ranks with other layers", words, other.replace("1", "[12]", 1) + "other layers than rank 0", 2, 1)
        for budget in ("8MiB", "60MiB"):
            self.one_differs(f"a rank with {budget}", ["--memory_budget", budget], other + "budget", 1)
        self.one_differs("a rank with a wrong flag", ["--no_such"], r"^liveavatar: rank 1 \(\S+\): unknown flag", 2)
        self.one_differs("the lead with a wrong flag", ["--no_such"], "^liveavatar: unknown flag", 2, differs=0)

    def no_room(self):
        self.one_differs("a full disk", [], "^liveavatar: .*" + re.escape(str(self.file)), 1, differs=0,
                         command=["prlimit", "--fsize=12000"], whole=False)
        self.one_differs("a rank without memory", [], r"^liveavatar: rank 1 \(\S+, cpu\)", 1,
                         command=["sh", "-c", 'ulimit -v 280000; exec "$0" "$@"'])


class OneProcess:
    """Ranks that are threads."""

    def __init__(self, program, model, folder):
        self.file = folder / "video.mp4"
        self.job = [program, *arguments(model, self.file), "--devices", "cpu:3"]

    def end_of(self, words, stop_after_s=None, whole=True):
        """-> (exit code, the errors, seconds from the stop to the end)"""
        self.file.unlink(missing_ok=True)
        process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        if stop_after_s is not None:
            time.sleep(stop_after_s)
            process.send_signal(signal.SIGINT)
        began = time.monotonic()
        try:
            _, text = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        end_s = time.monotonic() - began
        errors = [line for line in text.splitlines() if line.startswith("liveavatar: ") and ": stopping: " not in line]
        check_plays(self.file, whole)
        return process.returncode, errors, end_s

    def check(self):
        began = time.monotonic()
        code, errors, _ = self.end_of(self.job)
        whole_s = time.monotonic() - began
        assert code == 0 and not errors and self.file.exists(), errors
        for flags in ([], ["--enable_vae_parallel", "--num_gpus_dit", "2"], ["--ulysses_size", "3"], ["--dit_fsdp"]):
            code, errors, end_s = self.end_of([*self.job, *flags], random.uniform(0.05, whole_s))
            print(f"one process {' '.join(flags)}: stopped, end after {end_s:.2f} s, code {code}", flush=True)
            assert code in (0, 130) and not errors and end_s < 2, f"{code} {errors}"
        code, errors, _ = self.end_of(["prlimit", "--fsize=12000", *self.job], whole=False)
        assert code == 1 and len(errors) == 1 and str(self.file) in errors[0], f"{code} {errors}"
        code, errors, _ = self.end_of([*self.job, "--memory_budget", "20MiB"])
        assert code == 1 and len(errors) == 1 and "--memory_budget" in errors[0], f"{code} {errors}"
        assert not self.file.exists()
        code, errors, _ = self.end_of([*self.job, "--num_gpus_dit", "9"])
        assert code == 2 and len(errors) == 1 and "--num_gpus_dit" in errors[0], f"{code} {errors}"


def main():
    need_mpirun()
    program, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        OneProcess(program, model, Path(folder)).check()
        cases = Cases(program, model, Path(folder))
        for group in (cases.usage, cases.help, cases.ranks_that_differ, cases.no_room):
            group()
    print("all as expected")


if __name__ == "__main__":
    main()
