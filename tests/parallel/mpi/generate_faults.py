#!/usr/bin/env python3
"""generate_faults.py PROGRAM MODEL [ROUNDS [SEED]]: a rank of `liveavatar generate` is killed or stopped at any moment.

Every time: an end within 10 s, an exit code that is not 0, one line that names the rank, no process left over, and a
file that plays. So with Ctrl-C, which names nobody.
"""
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from generate import GenerateRun, arguments, decoded
from mpirun import is_running, need_mpirun

LIMIT_S = 10
FIRST_S = 0.1  # from then on all ranks look at each other; before that mpirun alone says which has ended
FAULTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "Ctrl-C": signal.SIGINT}
MODES = [(2, []), (2, ["--ulysses_size", "2"]), (2, ["--enable_vae_parallel"]), (2, ["--dit_fsdp"]),
         (3, []), (3, ["--num_gpus_dit", "2", "--enable_vae_parallel"]), (3, ["--ulysses_size", "3", "--dit_fsdp"]),
         (4, []), (4, ["--ulysses_size", "2"]), (4, ["--enable_vae_parallel", "--dit_fsdp"]),
         (5, ["--num_gpus_dit", "4", "--ulysses_size", "2", "--enable_vae_parallel"])]


def healthy(program, model, mode, known={}):
    """-> (seconds from the moment when all ranks have begun to the end, frames) of a run of this mode"""
    ranks, flags = mode
    key = (ranks, *flags)
    if key not in known:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            run = GenerateRun(ranks, [program, *arguments(model, file), *flags])
            try:
                run.rank_pids(ranks, program)
                began = time.monotonic()
                code = run.end(60)
                seconds = time.monotonic() - began
                frames, errors = decoded(file)
                known[key] = (seconds, len(frames))
                assert code == 0 and not run.errors() and frames and not errors, f"{code} {errors}\n{run.text()}"
            finally:
                run.kill_all()
    return known[key]


def check_file(file, lead_lives):
    """-> frames in it. The file of a lead that was killed ends anywhere."""
    if not file.exists() or file.stat().st_size == 0:
        return 0
    frames, errors = decoded(file)
    assert not errors or not lead_lives, f"the file does not play: {errors}"
    return len(frames)


def check_lines(run, fault, victim):
    lines = run.errors()
    if fault == "Ctrl-C":
        assert not lines, f"an error was printed:\n{run.text()}"
        return
    assert len(lines) == 1 and lines[0].startswith(f"liveavatar: rank {victim} ("), run.text()


def one_round(program, model, fault, mode):
    """-> seconds to the end; None: the job had ended before"""
    ranks, flags = mode
    victim = random.randrange(ranks)
    whole_s, all_frames = healthy(program, model, mode)
    moment_s = random.uniform(FIRST_S, whole_s)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        run = GenerateRun(ranks, [program, *arguments(model, file), *flags])
        try:
            pids = run.rank_pids(ranks, program)
            time.sleep(moment_s)
            target = run.process.pid if fault == "Ctrl-C" else pids[victim]
            if not is_running(target):
                return None
            began = time.monotonic()
            os.kill(target, FAULTS[fault])
            code = run.end(LIMIT_S)
            end_s = time.monotonic() - began
            left = run.left_over(LIMIT_S - end_s)
            what = "Ctrl-C" if fault == "Ctrl-C" else f"rank {victim} {fault}"
            print(f"{what} of {ranks} {' '.join(flags)} after {moment_s:.2f} s: end after {end_s:.1f} s, code {code}: "
                  f"{run.errors()}", flush=True)
            assert not left, f"left over: {left}\n{run.text()}"
            frames = check_file(file, victim != 0 or fault == "Ctrl-C")
            if frames == all_frames and not run.errors() and fault != "Ctrl-C":
                return None  # the video was whole, and the rank about to end: mpirun alone says which
            assert code != 0, run.text()
            check_lines(run, fault, victim)
            return end_s
        finally:
            run.kill_all()


def main():
    need_mpirun()
    program, model = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    print(f"seed {seed}")
    random.seed(seed)
    times = {fault: [] for fault in FAULTS}
    for number in range(rounds):
        fault = list(FAULTS)[number % len(FAULTS)]
        times[fault].append(one_round(program, model, fault, random.choice(MODES)))
    for fault, seconds in times.items():
        ended = sorted(s for s in seconds if s is not None)
        if ended:
            print(f"{fault}: {len(ended)} of {len(seconds)} rounds, end after {ended[0]:.1f} to {ended[-1]:.1f} s, "
                  f"median {statistics.median(ended):.1f} s")


if __name__ == "__main__":
    main()
