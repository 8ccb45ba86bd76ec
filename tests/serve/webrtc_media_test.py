#!/usr/bin/env python3
"""webrtc_media_test.py PROGRAM SOURCE: what arrives of frames and sound that are known, with aiortc as the peer.

--measure prints latencies, and tests nothing."""
import asyncio
import os
import sys
import unittest

from webrtc_client import Peer, Tone, np, record_reports, until

SOURCE = None
WRAP = 2**32


def number_of(luma):
    """The number that webrtc_source drew, and whether the bar is white."""
    middles = [luma[y * 64 + 20:y * 64 + 44, x * 64 + 20:x * 64 + 44].mean() > 120 for y in range(4) for x in range(4)]
    return sum(int(white) << at for at, white in enumerate(middles[:12])), all(middles[12:])


def begins_of(sound):
    """RTP times at which beeps begin, in samples."""
    begins, quiet = [], 10**6
    for _, pts, samples in sound:
        for at in np.flatnonzero(np.abs(samples.astype(np.int32)) > 4000):
            if pts + at - quiet > 20000 or quiet == 10**6:
                begins.append(int(pts + at))
            quiet = pts + at
    return begins


class Source:
    """webrtc_source, and the peer that it sends to."""

    def __init__(self, peer, seconds):
        self.peer, self.seconds, self.lines = peer, seconds, []

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            SOURCE, str(self.seconds), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self.process.stdin.write((await self.peer.offer()).encode())
        self.process.stdin.close()
        first = (await self.process.stdout.readline()).decode().split()
        if first[0] != "answer":
            raise AssertionError(first)
        await self.peer.take((await self.process.stdout.readexactly(int(first[1]))).decode())
        self.reader = asyncio.ensure_future(self._read())
        return self

    async def _read(self):
        while line := (await self.process.stdout.readline()).decode().strip():
            self.lines.append(line)

    async def __aexit__(self, *_):
        await self.peer.close()
        if self.process.returncode is None:
            await self.process.wait()
        await self.reader

    def line(self, kind):
        return next((line for line in self.lines if line.startswith(kind)), None)


def ntp_of(peer, kind, pts, rate):
    """Seconds of the sender's clock at which that RTP time was. aiortc counts from the first packet."""
    ntp, rtp = peer.reports[kind]
    receiver = next(t.receiver for t in peer.connection.getTransceivers() if t.kind == kind)
    origin = receiver._RTCRtpReceiver__timestamp_mapper._origin
    return ntp + ((pts + origin - rtp + WRAP // 2) % WRAP - WRAP // 2) / rate


class Media(unittest.IsolatedAsyncioTestCase):
    async def test_frames_come_in_order_without_loss_and_beeps_with_their_pictures(self):
        peer = Peer()
        record_reports(peer)
        async with Source(peer, 12) as source:
            await until("it has ended", lambda: source.line("microphone"))
        numbered = [(pts, *number_of(luma)) for _, pts, luma in peer.bright()]
        numbers = [number for _, number, _ in numbered]
        self.assertEqual(numbers, sorted(set(numbers)), "order")
        # Where the network queue of a loaded machine overflows a frame is lost.
        self.assertGreater(len(numbers), 0.8 * (numbers[-1] - numbers[0]), "loss")
        self.assertGreater(numbers[-1], 200)
        steps = [(b - a, m - n) for (a, n, _), (b, m, _) in zip(numbered, numbered[1:])]
        self.assertTrue(all(abs(pts - 3600 * frames) <= 90 for pts, frames in steps), steps)
        bars = [pts for pts, number, bar in numbered if bar]
        self.assertEqual([number % 25 for _, number, bar in numbered if bar], [0] * len(bars))
        begins = begins_of(peer.sound)
        self.assertGreater(min(len(bars), len(begins)), 5)
        offsets = []
        for begin in begins:
            heard = ntp_of(peer, "audio", begin, 48000)
            offsets.append(min((heard - ntp_of(peer, "video", bar, 90000) for bar in bars), key=abs))
        self.assertLess(abs(float(np.median(offsets))), 0.045, offsets)

    async def test_the_microphone_arrives_whole(self):
        peer = Peer(microphone=Tone())
        async with Source(peer, 8) as source:
            await until("it has ended", lambda: source.line("microphone"))
        _, samples, loud = source.line("microphone").split()
        self.assertGreater(int(samples), 48000)
        self.assertGreater(int(loud), 0.8 * int(samples))


async def measure():
    firsts, latencies = [], []
    for _ in range(5):
        peer = Peer(microphone=Tone())
        async with Source(peer, 10) as source:
            await until("it has ended", lambda: source.line("microphone"))
        begin = float(source.line("first").split()[1])
        firsts.append(peer.bright()[0][0] - peer.offered_at)
        latencies += [at - begin - 40 * number_of(luma)[0] for at, _, luma in peer.bright()[25:]]
    print("first picture after the offer, ms:", *(round(first) for first in firsts))
    print("a picture's latency, ms: p50 %.0f p95 %.0f of %d" % (*np.percentile(latencies, [50, 95]), len(latencies)))


if __name__ == "__main__":
    SOURCE = os.path.abspath(sys.argv[2])
    del sys.argv[1:3]
    if "--measure" in sys.argv:
        asyncio.run(measure())
    else:
        unittest.main(verbosity=2)
