#!/usr/bin/env python3
"""cases.py MPI_RANK: what every transport has to do, under mpirun with 2, 3 and 5 ranks."""
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mpirun import Run, is_running, need_mpirun

LIMIT_S = 120


def check_stop(program):
    """Ctrl-C ends a run as stopped: nobody is said to have died."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        run = Run(3, [program, "work", "--file", str(file)])
        pids = run.pids(3)
        time.sleep(0.5)
        run.process.send_signal(signal.SIGINT)
        code = run.end(10)
        assert code != 0 and run.text().count("says: ") == 1 and "rank 0 says: stopped" in run.text(), run.text()
        assert file.exists() and not any(map(is_running, pids.values()))


def main():
    program = sys.argv[1]
    need_mpirun()
    for transport in ([], ["--mca", "btl", "tcp,self"]):
        for ranks in (2, 3, 5):
            run = Run(ranks, [program, "cases", "--gtest_brief=1"], transport)
            code = run.end(LIMIT_S)
            assert code == 0 and run.text().count("PASSED") == ranks, f"{ranks} ranks: {code}\n{run.text()}"

            run = Run(ranks, [program, "failure"], transport)
            code = run.end(LIMIT_S)
            assert code != 0 and run.text().count("saw the failure") == ranks, f"{ranks} ranks: {code}\n{run.text()}"
    for _ in range(3):
        check_stop(program)
    alone = subprocess.run([program, "cases"], capture_output=True, text=True, check=False)
    assert alone.returncode == 2 and "start it with mpirun" in alone.stderr, alone
    print("all as expected")


main()
