#!/usr/bin/env python3
"""kill_and_resume.py PROGRAM [--kills N] [--power-cuts N --library FILE] [--seed S]: `liveavatar generate --resume` is
killed at a random moment, or its power is cut; its video plays, and the same line again ends with the file of a run
that nothing stopped, byte by byte."""
import argparse
import collections
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from power_cut import Disk, read_journal  # noqa: E402
from resumed_job import NO_SNAPSHOT, PARTIAL, VIDEO, Failure, Run, check_video, make_voice  # noqa: E402

SOURCE = Path(__file__).resolve().parents[2]
MOST_TRIES = 20


class Job:
    """The command line, and what it makes when nothing stops it."""

    def __init__(self, options, work):
        self.options, self.work, self.count = options, work, 0
        make_voice(SOURCE / "assets/demo/voice.wav", work / "voice.wav", options.seconds)
        self.command = [Path(options.program).resolve(), "generate", "--image", SOURCE / "assets/demo/portrait.png",
                        "--audio", work / "voice.wav", "--size", options.size, "--save_file", VIDEO, "--resume",
                        "--snapshot_every", options.snapshot_every, *shlex.split(options.flags)]
        self.seconds, self.tail_s = 600, 0
        folder = self.new_folder()
        run = self.start(folder)
        self.tail_s = self.time_to_end(run)
        self.seconds = time.monotonic() - run.begin
        self.reference = (folder / VIDEO).read_bytes()

    def time_to_end(self, run):
        """Of an unbroken run: seconds behind the last block."""
        while not run.wait(0.01) and not run.is_at_last_block():
            pass
        last = time.monotonic()
        if run.end(600) != 0:
            sys.exit(f"the run that nothing stops failed: {run.last_line()}")
        return max(time.monotonic() - last, 0.05)

    def new_folder(self):
        self.count += 1
        folder = self.work / f"job-{self.count}"
        folder.mkdir()
        return folder

    def start(self, folder, journal=None):
        variables = {} if journal is None else {"LD_PRELOAD": str(Path(self.options.library).resolve()),
                                                "POWER_CUT_ROOT": str(folder), "POWER_CUT_JOURNAL": str(journal)}
        return Run(self.command, folder, variables)

    def kill(self, run, rng):
        """At any moment, or, one in four times, while the file is being finished. -> whether it still ran"""
        at_end, share = rng.random() < 0.25, rng.random()
        if at_end:
            return run.kill_behind_last_block(share * 1.2 * self.tail_s)
        return run.kill_after(share * 1.05 * self.seconds)

    def end(self, run):
        return run.end(60 + 20 * self.seconds)


class Trials:
    def __init__(self, job):
        self.job, self.tally, self.most_lost = job, collections.Counter(), 0

    def lost(self, frames):
        self.most_lost = max(self.most_lost, frames)

    def kill(self, rng):
        folder = self.job.new_folder()
        while self.start_and_kill(folder, rng) == 0:  # it was done before
            self.check_end(folder)
            folder = self.job.new_folder()
        self.resume(folder, rng)

    def start_and_kill(self, folder, rng):
        """-> the exit code"""
        run = self.job.start(folder)
        if self.job.kill(run, rng):
            self.tally["kills"] += 1
            self.lost(check_video(folder / VIDEO, run.delivered_frames()))
            return -9
        return self.checked_end(run, folder)

    def resume(self, folder, rng):
        """The same line until it is done; one in four times it is killed again."""
        for _ in range(MOST_TRIES):
            again = rng.random() < 0.25
            code = self.start_and_kill(folder, rng) if again else self.checked_end(self.job.start(folder), folder)
            if code == 0:
                return self.check_end(folder)
        raise Failure(f"is not done after {MOST_TRIES} tries")

    def checked_end(self, run, folder):
        """-> 0: done; 2: began anew without the video, which had no snapshot"""
        code = self.job.end(run)
        if code == 2 and NO_SNAPSHOT in run.text:
            return self.refused(folder / VIDEO)
        if code != 0:
            raise Failure(f"exit code {code}: {run.last_line()}")
        self.tally["resumed"] += run.frames_before() > 0
        return 0

    def refused(self, video):
        if video.read_bytes() == self.job.reference:
            self.tally["finished, and refused"] += 1
            return 0
        self.tally["without a snapshot, and refused"] += 1
        video.unlink()
        return 2

    def check_end(self, folder):
        if not (folder / VIDEO).exists():
            raise Failure("it ended well, without a video")
        video = (folder / VIDEO).read_bytes()
        if video != self.job.reference:
            pairs = zip(video, self.job.reference)
            differs = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(video), len(self.job.reference)))
            raise Failure(f"the video is another from byte {differs} on ({len(video)}, not {len(self.job.reference)})")
        left = [str(entry.relative_to(folder)) for entry in sorted(folder.rglob("*"))
                if entry.name.endswith(PARTIAL) or entry.name.startswith(VIDEO + ".")]
        if left:
            raise Failure(f"the video is whole, but left is {', '.join(left)}")
        shutil.rmtree(folder)

    def power_cut(self, rng):
        """One in four times the power goes again."""
        folder = self.job.new_folder()
        for _ in range(4):
            folder = self.run_and_cut(folder, rng)
            if rng.random() >= 0.25:
                break
        self.resume(folder, rng)

    def run_and_cut(self, folder, rng):
        """The power goes where the run is killed, or behind any step of a whole run. -> the folder with what is left"""
        disk, whole, journal = Disk(folder), Disk(folder), folder.with_suffix(".journal")
        journal.write_bytes(b"")  # also of a program that is killed before it has begun
        run = self.job.start(folder, journal)
        at_step = rng.random() < 0.5
        code = self.job.end(run) if at_step or not self.job.kill(run, rng) else -9
        if code == 2 and NO_SNAPSHOT in run.text:
            return folder
        if code not in (0, -9):
            raise Failure(f"exit code {code}: {run.last_line()}")
        records = read_journal(journal, folder)
        if code == 0 and whole.run(records).everything() != files_below(folder):
            raise Failure("the journal is not whole: the test does not see all that the program writes")
        until = some_step(records, rng) if at_step else len(records)
        left = folder.with_name(folder.name + "-left")
        disk.run(records[:until]).leave(left, rng.random())
        shutil.rmtree(folder)
        journal.unlink()
        self.tally["power cuts"] += 1
        self.check_left(disk, left, run)
        return left

    def check_left(self, disk, left, run):
        file = disk.node(VIDEO)
        delivered = run.frames_before() + disk.frames if disk.frames > 0 else 0
        self.lost(check_video(left / VIDEO, delivered, file.certain_size() if file else 0))


def files_below(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def some_step(records, rng):
    """-> how many records are before the cut. A file that is written in many parts is one step, and one in three times
    it is one of the last, since a run ends but once."""
    steps = [number for number, record in enumerate(records)
             if record.kind != "F" and not (record.kind == "W" and number > 0 and records[number - 1].kind == "W"
                                            and records[number - 1].path == record.path)]
    step = rng.choice(steps[-12:] if rng.random() < 1 / 3 else steps)
    return rng.randint(step, min([other for other in steps if other > step], default=len(records)))


def run_trials(trials, options, failures):
    kinds = {"kill": (options.kills, trials.kill), "cut": (options.power_cuts, trials.power_cut)}
    for kind, (count, trial) in kinds.items():
        for number in range(count):
            if options.only and options.only != f"{kind}:{number}":
                continue
            try:
                trial(random.Random(f"{options.seed} {kind} {number}"))
                trials.tally[f"trials ({kind})"] += 1
            except Failure as failure:
                failures.append(failure)
                print(f"FAILED: {failure}; again: --seed {options.seed} --only {kind}:{number}", flush=True)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--power-cuts", type=int, default=0)
    parser.add_argument("--library", help="power_cut.c, built; for --power-cuts")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", help="one trial of them, as a failure names it")
    parser.add_argument("--seconds", type=float, default=60, help="of video")
    parser.add_argument("--size", default="64*64")
    parser.add_argument("--snapshot_every", default="10")
    parser.add_argument("--flags", default="", help="more of them for generate, as one text")
    parser.add_argument("--keep", help="a new folder for the files; those of failures stay")
    options = parser.parse_args()
    if options.power_cuts > 0 and not options.library:
        parser.error("--power-cuts: give --library too")
    return options


def run(options, work):
    """-> exit code. Ctrl-C and SIGTERM end it too, with what was seen by then."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    trials, failures = Trials(Job(options, work)), []
    try:
        run_trials(trials, options, failures)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    tally = ", ".join(f"{count} {what}" for what, count in trials.tally.items())
    print(f"{tally}; a whole run takes {trials.job.seconds:.1f} s; at most {trials.most_lost} frames were lost; "
          f"{len(failures)} failed", flush=True)
    return 1 if failures else 0


def main():
    options = parse_options()
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        print("no ffmpeg and ffprobe; scripts/install-deps")
        return 77
    if options.keep:
        Path(options.keep).mkdir()
        return run(options, Path(options.keep).resolve())
    with tempfile.TemporaryDirectory() as work:
        return run(options, Path(work).resolve())


if __name__ == "__main__":
    sys.exit(main())
