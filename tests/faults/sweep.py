#!/usr/bin/env python3
"""sweep.py PROGRAM SHIM: runs short jobs of the program, each time with another call of the system that fails, and says
what is wrong with how a run ends. docs/robustness.md explains it."""
import argparse
import collections
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs import SOURCE, WAYS, jobs
from outcome import Frames, Judge, Outcome

PATIENCE_S = 20
SKIPPED = 77
SPACE_STEPS = 64  # full disks: so many sizes between nothing and all


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Runner:
    """Runs a job in a folder of its own, under the shim."""

    def __init__(self, program, shim, trace=False):
        self.program, self.shim, self.trace = program, shim, trace

    def run(self, job, out, fault=None, sites=None):
        for name, content in job.before.items():
            if name.endswith("/"):
                (out / name).mkdir()
            else:
                (out / name).write_text(content)
        log = out.parent / (out.name + ".log")
        environment = dict(os.environ, LD_PRELOAD=str(self.shim), FAULT_LOG=str(log),
                           FAULT_FOLDERS=f"{out}:{SOURCE}/models:{SOURCE}/assets")
        kind, _, rest = (fault or "").partition(":")
        if fault and kind != "limit":
            environment["FAULT"] = fault
        if sites:
            environment["FAULT_SITES"] = str(sites)
        if self.trace:
            environment["FAULT_TRACE"] = "1"
        limit = int(rest.split(":")[0]) if kind == "limit" else None
        return self.outcome(job, out, environment, log, limit)

    def outcome(self, job, out, environment, log, limit):
        def set_limits():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = subprocess.Popen(job.command(self.program, out), env=environment, preexec_fn=set_limits,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        hung = False
        try:
            text, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            text, errors = process.communicate()
        result = Outcome(process.returncode, text, errors.decode(errors="replace").splitlines(), files_below(out),
                         hung=hung)
        for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
            words = line.split(" ")
            if words[0] == "count":
                result.counts[words[1]] = int(words[2])
            else:
                result.hits.append(line)
        return result


def sites_of(path):
    """The first allocation of each place in the program that allocates."""
    first = {}
    for line in path.read_text().splitlines():
        number, place = line.split()
        first.setdefault(place, int(number))
    return sorted(set(first.values()))


def spread(numbers, most):
    """So many of them, as far apart as they can be."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[(2 * i + 1) * len(numbers) // (2 * most)] for i in range(most)]


class Sweep:
    def __init__(self, runner, options, folder):
        self.runner, self.options, self.folder = runner, options, folder
        self.frames = Frames()
        self.made = 0
        self.records = []

    def new_folder(self):
        self.made += 1
        out = self.folder / f"run{self.made}"
        out.mkdir()
        return out

    def prepare(self, job):
        """The job without a fault -> its judge, and groups of faults: kind and way -> [(fault, must be survived)]"""
        out = self.new_folder()
        sites = self.folder / f"{job.name}.sites"
        clean = self.runner.run(job, out, sites=sites if "memory" in job.kinds else None)
        if clean.code != 0:
            sys.exit(f"sweep: {job.name} fails without a fault: {clean.code} {clean.lines}")
        judge = Judge(job, clean, self.frames, out)
        numbers = {kind: list(range(1, clean.counts.get(kind, 0) + 1)) for kind in job.kinds}
        written = clean.counts["space"]
        largest = max([0] + [len(content) for content in clean.files.values()])
        if "memory" in numbers:
            numbers["memory"] = sites_of(sites)
        if "space" in numbers:
            numbers["space"] = sorted({written * i // SPACE_STEPS + i % 7 for i in range(SPACE_STEPS)})
        if "limit" in numbers:
            numbers["limit"] = sorted({largest * i // SPACE_STEPS for i in range(SPACE_STEPS)})
        groups = {}
        for kind in job.kinds:
            if self.options.kinds and kind not in self.options.kinds:
                continue
            for way in map(str, WAYS[kind]):
                faults = [(f"{kind}:{n}:{way.rstrip('!')}", way.endswith("!")) for n in numbers[kind]]
                if way == "short!":
                    faults.append((f"{kind}:0:short+", True))
                if faults:
                    groups[kind + ":" + way] = faults
        return judge, groups

    def try_one(self, job, judge, fault, must_survive):
        out = self.new_folder()
        began = time.monotonic()
        outcome = self.runner.run(job, out, fault)
        problems = judge.problems(outcome, must_survive, out)
        self.records.append({"job": job.name, "fault": fault, "code": outcome.code, "lines": outcome.lines,
                             "out": outcome.out.decode(errors="replace").splitlines() if judge.job.text else [],
                             "hit": outcome.hits[:60], "problems": problems, "seconds": time.monotonic() - began})
        shutil.rmtree(out)
        (self.folder / (out.name + ".log")).unlink(missing_ok=True)

    def run(self, wanted):
        work = []
        for job in wanted:
            judge, groups = self.prepare(job)
            for name, faults in groups.items():
                work.append((job, judge, name, faults))
        if self.options.most:
            each = max(1, self.options.most // max(1, len(work)))
            work = [(job, judge, name, spread(faults, each)) for job, judge, name, faults in work]
        with ThreadPoolExecutor(self.options.parallel) as pool:
            tasks = [pool.submit(self.try_one, job, judge, fault, survived)
                     for job, judge, _, faults in work for fault, survived in faults]
            try:
                for task in tasks:
                    task.result()
            except KeyboardInterrupt:  # what was found so far
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                pool.shutdown(cancel_futures=True)

    def report(self):
        groups = collections.defaultdict(list)
        for record in self.records:
            for problem in record["problems"]:
                alike = re.sub(r"0x[0-9a-f]+|\d\d+|\S+ @", "#", problem)
                groups[(record["job"], record["fault"].split(":")[0], alike)].append(record)
        for (job, _, problem), records in sorted(groups.items()):
            first = records[0]
            print(f"{job}: {problem}: {len(records)} times, first {first['fault']}")
            for line in (first["lines"] or first["out"])[:2] + first["hit"][:1]:
                print("    " + line)
        hits = sum(1 for record in self.records if record["hit"] or record["fault"].startswith("limit"))
        codes = collections.Counter(record["code"] for record in self.records)
        print(f"{len(self.records)} runs, {hits} met their fault, exit codes {dict(codes)}, "
              f"{sum(1 for r in self.records if r['problems'])} with problems")
        return 1 if groups or not hits else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("shim")
    parser.add_argument("--jobs", nargs="+", choices=[job.name for job in jobs()], help="default: all")
    parser.add_argument("--kinds", nargs="+", choices=list(WAYS), help="kinds of calls; default: all")
    parser.add_argument("--most", type=int, default=0, help="near so many runs, evenly chosen; default: all")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--fault", help="one fault, KIND:N:HOW as the shim takes it, with the calls that led to it")
    parser.add_argument("--json", help="write every run there")
    options = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        print("sweep: ffmpeg is missing, which says whether a video plays; skipped")
        return SKIPPED
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = [job for job in jobs() if not options.jobs or job.name in options.jobs]
    runner = Runner(Path(options.program).resolve(), Path(options.shim).resolve(), trace=bool(options.fault))
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        sweep = Sweep(runner, options, Path(folder))
        if options.fault:
            for job in wanted:
                sweep.try_one(job, sweep.prepare(job)[0], options.fault, False)
                print("\n".join(map(str, sweep.records[-1].items())).replace("\\n", "\n"))
        else:
            sweep.run(wanted)
        code = sweep.report()
    if options.json:
        Path(options.json).write_text(json.dumps(sweep.records))
    return code


if __name__ == "__main__":
    sys.exit(main())
