#!/usr/bin/env python3
"""generate_network.py PROGRAM MODEL: `liveavatar generate` on two hosts that are 10 ms apart makes the frames of one
process. Then one of two ranks is killed, is stopped, and the network is cut.
"""
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from generate import GenerateRun, arguments, decoded
from hosts import TwoHosts, why_impossible
from mpirun import need_mpirun, skip

DELAY_S = 0.010
LIMIT_S = 240
MODES = [(2, []), (2, ["--ulysses_size", "2"]), (2, ["--dit_fsdp"]),
         (4, ["--num_gpus_dit", "3", "--enable_vae_parallel"])]


def frames_of(program, model, mode, hosts):
    """-> the decoded frames' sums. hosts: a TwoHosts; None: one process makes the video"""
    ranks, flags = mode
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        job = [program, *arguments(model, file, infer_frames=24), *flags]
        where = (hosts.options(ranks), hosts.before()) if hosts else ()
        run = GenerateRun(ranks, job, *where)
        try:
            began = time.monotonic()
            code = run.end(LIMIT_S)
            place = f"{DELAY_S * 1000:.0f} ms apart" if hosts else "one host"
            print(f"{ranks} {' '.join(flags)}, {place}: {time.monotonic() - began:.1f} s", flush=True)
            assert code == 0 and not run.errors() and not run.left_over(2), run.text()
            frames, errors = decoded(file)
            assert frames and not errors, errors
            return frames
        finally:
            run.kill_all()


def one_fault(program, model, fault, victim, hosts):
    limit_s = 10 if fault != "cut off" else 13  # mpirun takes longer to end with a host that it cannot reach
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        job = [program, *arguments(model, file, size="256*256", clips=40)]
        run = GenerateRun(2, job, hosts.options(2), hosts.before())
        try:
            pids = run.rank_pids(2, program)
            until = time.monotonic() + 60
            while not (file.exists() and file.stat().st_size > 0) and time.monotonic() < until:
                time.sleep(0.05)
            began = time.monotonic()
            if fault == "cut off":
                hosts.link.is_cut = True
            else:
                os.kill(pids[victim], {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[fault])
            code = run.end(limit_s)
            end_s = time.monotonic() - began
            print(f"rank {victim} {fault}: end after {end_s:.1f} s, code {code}: {run.errors()}", flush=True)
            left = run.left_over(limit_s - end_s)
            assert code != 0 and not left, f"{code} {left}"
            lines = run.errors()
            name = f"liveavatar: rank {victim} (host-{victim + 1}, cpu) "
            assert len(lines) == 1 and lines[0].startswith(name), run.text()
            frames, errors = decoded(file)
            assert victim == 0 or (frames and not errors), f"{len(frames)} frames, {errors}"
        finally:
            run.kill_all()
            hosts.link.is_cut = False


def main():
    need_mpirun()
    why = why_impossible()
    if why:
        skip(why)
    program, model = sys.argv[1:3]
    alone = frames_of(program, model, (1, []), None)
    with TwoHosts(DELAY_S) as hosts:
        for mode in MODES:
            assert frames_of(program, model, mode, hosts) == alone, f"{mode}: other frames than on one device"
        for fault, victim in (("killed", 1), ("killed", 0), ("stopped", 1), ("stopped", 0), ("cut off", 1)):
            one_fault(program, model, fault, victim, hosts)
    print("all as expected")


main()
