#!/usr/bin/env python3
"""faults.py MPI_RANK [ROUNDS [SEED]]: one rank is killed, is stopped or hangs while all work.

Every time: an end within 10 s, an exit code that is not 0, one line that names the rank, and no process left over. The
lead has finished its file, if it lives.
"""
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from mpirun import Run, is_running, need_mpirun

LIMIT_S = 10
FAULTS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "hangs": signal.SIGUSR1}  # and "cut off"
SILENCE = "gave no sign of life for 5 s"
WHAT = {"killed": "ended", "stopped": SILENCE, "cut off": SILENCE, "hangs": r"did not (send|take) a block for 2 s"}


def one_round(program, fault, ranks, victim, hosts=None):
    """hosts: a TwoHosts, or None for this machine. mpirun takes longer to end with a host that it cannot reach."""
    limit_s = LIMIT_S if fault != "cut off" else LIMIT_S + 3
    where = (hosts.options(ranks), hosts.before()) if hosts else ()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        work = [program, "work", "--file", str(file), "--end_s", "1"]
        run = Run(ranks, work + (["--wait_s", "2"] if fault == "hangs" else []), *where)
        pids = {}
        try:
            pids = run.pids(ranks)
            time.sleep(random.uniform(0.3, 1))
            began = time.monotonic()
            if fault == "cut off":
                hosts.link.is_cut = True
            else:
                os.kill(pids[victim], FAULTS[fault])
            code = run.end(limit_s)
            end_s = time.monotonic() - began
            while any(map(is_running, pids.values())) and time.monotonic() - began < LIMIT_S:
                time.sleep(0.02)
            left = [rank for rank, pid in pids.items() if is_running(pid)]
            lines = re.findall(r"rank \d+ says: .*", run.text())
            print(f"{fault}: rank {victim} of {ranks}: end after {end_s:.1f} s, code {code}: {lines}", flush=True)
            assert code != 0, "exit code 0"
            assert not left, f"ranks {left} are left over"
            assert len(lines) == 1 and re.search(rf"says: rank {victim} \(.*\) {WHAT[fault]}", lines[0]), run.text()
            assert victim == 0 or file.exists(), "the lead has not finished its file"
        finally:
            run.clean_up(pids.values())


def main():
    need_mpirun()
    program = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print(f"seed {seed}")
    random.seed(seed)
    for number in range(rounds):
        ranks = random.choice((2, 3, 5))
        one_round(program, list(FAULTS)[number % len(FAULTS)], ranks, random.randrange(ranks))


if __name__ == "__main__":
    main()
