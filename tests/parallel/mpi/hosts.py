"""Two hosts in this machine: network namespaces with a link between them that takes its time. Needs root."""
import ctypes
import fcntl
import heapq
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ADDRESSES = ("10.99.7.1", "10.99.7.2")
ENTER = Path(__file__).resolve().parent / "enter_host"


def name(address):
    return f"la-{address}"


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def tap_in(namespace):
    """-> a file of whole packets: what the namespace sends to its device `wire`, and what it receives from it"""
    libc = ctypes.CDLL(None, use_errno=True)
    made = {}

    def make():  # a thread of its own, which stays in the namespace and ends
        with open(f"/run/netns/{namespace}") as net:
            if libc.setns(net.fileno(), 0) != 0:
                return
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            tun, without_header, set_name = 0x0001, 0x1000, 0x400454CA
            fcntl.ioctl(device, set_name, struct.pack("16sH22x", b"wire", tun | without_header))
            made["file"] = device

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made["file"]


class DelayedLink:
    """What one end sends the other gets `delay_s` later: for kernels that have no netem."""

    def __init__(self, ends, delay_s):
        self.ends = ends
        self.delay_s = delay_s
        self.is_cut = False
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()

    def carry(self):
        under_way, number = [], 0
        other = {self.ends[0]: self.ends[1], self.ends[1]: self.ends[0]}
        while True:
            timeout = max(0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            for end in select.select(self.ends, [], [], timeout)[0]:
                packet = os.read(end, 1 << 16)
                if not self.is_cut:
                    heapq.heappush(under_way, (time.monotonic() + self.delay_s, number, other[end], packet))
                    number += 1
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                try:
                    os.write(end, packet)
                except OSError:
                    pass  # full, or down: a network loses packets


class TwoHosts:
    """with TwoHosts(0.01) as hosts: ... why: empty, or why there are none"""

    def __init__(self, delay_s):
        self.delay_s = delay_s
        self.link = None

    def __enter__(self):
        self.remove()
        for address in ADDRESSES:
            self.do("netns", "add", name(address))
            self.do("-n", name(address), "link", "set", "lo", "up")
        ends = [tap_in(name(address)) for address in ADDRESSES]
        for address in ADDRESSES:
            self.do("-n", name(address), "addr", "add", f"{address}/24", "dev", "wire")
            self.do("-n", name(address), "link", "set", "dev", "wire", "mtu", "9000", "txqueuelen", "10000", "up")
        self.link = DelayedLink(ends, self.delay_s)
        return self

    def __exit__(self, *_):
        self.remove()

    @staticmethod
    def do(*arguments):
        done = ip(*arguments)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    @staticmethod
    def remove():
        for address in ADDRESSES:
            for pid in ip("netns", "pids", name(address)).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", name(address))

    @staticmethod
    def options(ranks):
        """mpirun's: `ranks` of them, by turns on the two hosts"""
        each = [(ranks + 1) // 2, ranks // 2]
        hosts = ",".join(f"{address}:{count}" for address, count in zip(ADDRESSES, each))
        return ["--host", hosts, "--map-by", "node", "--mca", "plm_rsh_agent", str(ENTER),
                "--mca", "btl", "tcp,self,vader", "--mca", "btl_tcp_if_include", "wire",
                "--mca", "oob_tcp_if_include", "wire"]

    @staticmethod
    def before():
        return [str(ENTER), ADDRESSES[0]]


def why_impossible():
    """-> empty, or why there can be no hosts"""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "unshare", "hostname"):
        if shutil.which(program) is None:
            return f"there is no program `{program}`"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    try:
        with TwoHosts(0.01):
            return ""
    except (OSError, KeyError) as error:
        return f"no network namespaces: {error}"


if __name__ == "__main__":
    print(why_impossible() or "two hosts are possible")
    sys.exit(0)
