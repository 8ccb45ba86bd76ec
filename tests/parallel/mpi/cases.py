#!/usr/bin/env python3
"""cases.py MPI_RANK: what every transport has to do, under mpirun with 2, 3 and 5 ranks."""
import subprocess
import sys

from mpirun import Run, need_mpirun

LIMIT_S = 120


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
    alone = subprocess.run([program, "cases"], capture_output=True, text=True, check=False)
    assert alone.returncode == 2 and "start it with mpirun" in alone.stderr, alone
    print("all as expected")


main()
