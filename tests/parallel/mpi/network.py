#!/usr/bin/env python3
"""network.py MPI_RANK [ROUNDS [SEED]]: what cases.py and faults.py test, on two hosts that are 10 ms apart; and the
network is cut. Also the times that messages take.
"""
import random
import sys

import faults
from hosts import TwoHosts, why_impossible
from mpirun import Run, need_mpirun, skip

DELAY_S = 0.010
LIMIT_S = 120


def check_messages(program, hosts):
    run = Run(3, [program, "cases", "--gtest_brief=1", "--gtest_filter=-*Large*"], hosts.options(3), hosts.before())
    code = run.end(LIMIT_S)
    assert code == 0 and run.text().count("PASSED") == 3, run.text()
    run = Run(3, [program, "failure"], hosts.options(3), hosts.before())
    code = run.end(LIMIT_S)
    assert code != 0 and run.text().count("saw the failure") == 3, run.text()
    run = Run(2, [program, "bench"], hosts.options(2), hosts.before())
    code = run.end(LIMIT_S)
    assert code == 0, run.text()
    print(f"{DELAY_S * 1000:.0f} ms apart: {run.text()}", flush=True)


def main():
    need_mpirun()
    why = why_impossible()
    if why:
        skip(why)
    program = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print(f"seed {seed}")
    random.seed(seed)
    with TwoHosts(DELAY_S) as hosts:
        check_messages(program, hosts)
        for number in range(rounds):
            ranks = random.choice((2, 3, 5))
            faults.one_round(program, list(faults.FAULTS)[number % 3], ranks, random.randrange(ranks), hosts)
        faults.one_round(program, "cut off", 2, 1, hosts)
    print("all as expected")


main()
