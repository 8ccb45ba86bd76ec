"""A run of ranks under mpirun: what they say, and when the last of them has ended."""
import os
import re
import shutil
import subprocess
import sys
import threading
import time

SKIPPED = 77


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def need_mpirun():
    if shutil.which("mpirun") is None:
        skip("there is no mpirun; install openmpi-bin")


def is_running(pid):
    """A zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Run:
    """before: in front of mpirun, as ["ip", "netns", "exec", "name"]. options: its own. variables: of its processes."""

    def __init__(self, ranks, program, options=(), before=(), variables=None):
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           **(variables or {}))
        mpirun = ["mpirun", "--oversubscribe", "-np", str(ranks)]
        self.lines = []
        self.process = subprocess.Popen([*before, *mpirun, *options, *program], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
                                        env=environment)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def text(self):
        return "\n".join(line for _, line in self.lines)

    def pids(self, ranks, limit_s=30):
        """-> {rank: pid}, when all have said it"""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            found = {int(r): int(p) for r, p in re.findall(r"rank (\d+) has pid (\d+)", self.text())}
            if len(found) == ranks:
                return found
            time.sleep(0.02)
        raise AssertionError(f"not all ranks began:\n{self.text()}")

    def end(self, limit_s):
        """-> mpirun's exit code, negative if it was killed by a signal"""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {limit_s:.1f} s:\n{self.text()}") from None
        self.reader.join(2)
        return code

    def clean_up(self, pids=()):
        self.process.kill()
        for pid in pids:
            if is_running(pid):
                os.kill(pid, 9)
