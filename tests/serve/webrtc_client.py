"""A WebRTC peer of aiortc. Where it is not installed, the test that imports this is skipped."""
import asyncio
import fractions
import json
import sys
import time

try:
    import av
    import numpy as np
    from aiortc import (MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender,
                        RTCSessionDescription)
except ImportError as missing:
    print(f"skipped: {missing}; see tests/serve/requirements.txt")
    sys.exit(77)

from client import PATIENCE_S

SDP = {"Content-Type": "application/sdp"}
LOUD = 3000


async def until(what, condition, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.05)
    raise AssertionError(f"did not happen in {patience_s} s: {what}")


class Tone(MediaStreamTrack):
    """A microphone: a tone of 1 kHz that never stops."""
    kind = "audio"

    def __init__(self):
        super().__init__()
        self.sent, self.begin = 0, None

    async def recv(self):
        self.begin = self.begin or time.monotonic()
        await asyncio.sleep(max(0, self.begin + self.sent / 48000 - time.monotonic()))
        at = np.arange(self.sent, self.sent + 960)
        samples = (12000 * np.sin(2 * np.pi * 1000 * at / 48000)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self.sent, fractions.Fraction(1, 48000)
        self.sent += 960
        return frame


class Peer:
    """Asks for video and sound; collects what comes."""

    def __init__(self, order=("video", "audio"), microphone=None, codec=None):
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures = []  # wall ms, RTP time (90 kHz), luma
        self.sound = []     # wall ms, RTP time (48 kHz), mono samples
        self.reports = {}   # kind -> NTP seconds, RTP time of the last sender report
        self.offered_at = self.where = self.answer = None
        for kind in order:
            if kind == "audio" and microphone:
                self.connection.addTransceiver(microphone, direction="sendrecv")
                continue
            transceiver = self.connection.addTransceiver(kind, direction="recvonly")
            if kind == "video" and codec:
                all_codecs = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences([c for c in all_codecs if c.mimeType.lower() == codec])
        self.connection.on("track", lambda track: asyncio.ensure_future(self._play(track)))

    async def _play(self, track):
        while True:
            try:
                frame = await track.recv()
            except Exception:
                return
            now = time.time() * 1000
            if track.kind == "video":
                plane = frame.planes[0]
                luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:frame.height, :frame.width]
                self.pictures.append((now, frame.pts, luma.copy()))
            else:
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                self.sound.append((now, frame.pts, samples.copy()))

    async def offer(self):
        await self.connection.setLocalDescription(await self.connection.createOffer())
        self.offered_at = time.time() * 1000
        return self.connection.localDescription.sdp

    async def take(self, answer):
        self.answer = answer
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def post(self, server, query="portrait=demo&size=64*64", headers=None):
        """-> status, body; the answer is taken where there is one"""
        offer = await self.offer()
        status, answer_headers, body = await asyncio.to_thread(
            server.request, "POST", "/v1/live/whep?" + query, offer, {**SDP, **(headers or {})})
        if status == 201:
            assert answer_headers["content-type"] == "application/sdp", answer_headers
            self.where = answer_headers["location"]
            await self.take(body.decode())
            return status, body.decode()
        return status, json.loads(body)

    def bright(self):
        """Pictures but the black one, which is sent before the first."""
        return [picture for picture in self.pictures if picture[2].mean() > 30]

    def loud(self):
        return [piece for piece in self.sound if np.abs(piece[2].astype(np.int32)).max() > LOUD]

    async def close(self):
        await self.connection.close()


def record_reports(peer):
    """Of the last RTCP sender report of each kind."""
    before = RTCRtpReceiver._handle_rtcp_packet

    async def handle(self, packet):
        info = getattr(packet, "sender_info", None)
        if info is not None:
            peer.reports[self._track.kind] = (info.ntp_timestamp / 2**32, info.rtp_timestamp)
        await before(self, packet)

    RTCRtpReceiver._handle_rtcp_packet = handle
