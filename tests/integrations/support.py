"""What the tests of integrations/ share. Where a package is not installed, the test is skipped."""
import asyncio
import importlib.util
import random
import struct
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests/serve")] + [str(SOURCE / "integrations" / part)
                                                for part in ("client", "livekit", "pipecat")]


def need(*modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            print(f"skipped: there is no {module}; see LIVEAVATAR_INTEGRATIONS_PYTHON in integrations/README.md")
            sys.exit(77)


need("websockets")
from client import PATIENCE_S, Server, wait_until  # noqa: E402
from liveavatar_client import LiveAvatar, LiveOptions  # noqa: E402

RATE = 16000
__all__ = ["PATIENCE_S", "RATE", "LiveAvatar", "Server", "is_said", "need", "no_sessions", "noise", "options_of",
           "until"]


def noise(seconds, seed=1, rate=RATE):
    """Noise that is found again: s16le, no sample is 0"""
    values = random.Random(seed)
    return b"".join(struct.pack("<h", values.randrange(1, 3000)) for _ in range(int(seconds * rate)))


def is_said(heard, spoken):
    """Whether that is all that is heard, but for 5 ms of what was interrupted before."""
    heard, spoken = heard.strip(b"\0"), spoken.strip(b"\0")
    return heard.endswith(spoken) and len(heard) - len(spoken) <= 2 * RATE // 200


def options_of(server, **more):
    return LiveOptions(server=f"http://127.0.0.1:{server.port}", size="64*64", sample_rate=RATE, **more)


def no_sessions(server):
    wait_until("no session is left", lambda: server.json("/health")["sessions"] == 0)


async def until(what, condition, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.02)
    raise AssertionError(f"did not happen in {patience_s} s: {what}")
