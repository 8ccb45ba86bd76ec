#!/usr/bin/env python3
"""webrtc_test.py PROGRAM ...: live sessions of `liveavatar serve` over WebRTC, with aiortc as the peer."""
import asyncio
import os
import random
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from webrtc_client import SDP, Peer, Tone, until
from client import Server, WebSocket, wait_until

PROGRAM = None
VANISHING = """
import asyncio, sys
sys.path.insert(0, {folder!r})
from types import SimpleNamespace
from client import Server
from webrtc_client import Peer, until
server = SimpleNamespace(port={port})
server.request = lambda *args: Server.request(server, *args)
async def main():
    peer = Peer()
    await peer.post(server)
    await until("pictures come", lambda: len(peer.bright()) > 5)
    print("plays", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def no_sessions(server):
    wait_until("no session is left", lambda: server.json("/health")["sessions"] == 0)


class Whep(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--max_sessions", 2)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def tearDown(self):
        no_sessions(self.server)

    def delete(self, peer):
        return self.server.request("DELETE", peer.where)[0]

    async def play(self, peer, least=30):
        status, answer = await peer.post(self.server)
        self.assertEqual(status, 201, answer)
        self.assertNotIn("FID 0 ", answer)
        await until("pictures come", lambda: len(peer.bright()) >= least)
        await until("sound comes", lambda: len(peer.sound) >= 2 * least)
        return answer

    async def test_frames_and_sound_come_in_every_session_and_delete_ends_it(self):
        for order in (("video", "audio"), ("audio", "video"), ("video", "audio")):
            peer = Peer(order)
            answer = await self.play(peer)
            self.assertIn("H264/90000", answer)
            self.assertEqual(peer.pictures[-1][2].shape, (64, 64))
            self.assertEqual(peer.loud(), [])
            self.assertEqual(self.server.json("/health")["sessions"], 1)
            self.assertEqual(self.delete(peer), 200)
            no_sessions(self.server)
            self.assertEqual(self.delete(peer), 404)
            await peer.close()

    async def test_vp8_is_sent_where_that_is_all_a_peer_takes(self):
        peer = Peer(codec="video/vp8")
        self.assertIn("VP8/90000", await self.play(peer))
        self.delete(peer)
        await peer.close()

    async def test_the_microphone_speaks(self):
        peer = Peer(microphone=Tone())
        status, answer = await peer.post(self.server)
        self.assertEqual(status, 201, answer)
        await until("what was said comes back", lambda: len(peer.loud()) > 50)
        self.delete(peer)
        await peer.close()

    async def test_a_peer_that_closes_ends_its_session(self):
        peer = Peer()
        await self.play(peer)
        await peer.close()
        no_sessions(self.server)

    async def test_a_peer_that_vanishes_ends_its_session(self):
        code = VANISHING.format(folder=str(Path(__file__).parent), port=self.server.port)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        self.assertEqual(await asyncio.to_thread(process.stdout.readline), "plays\n")
        self.assertEqual(self.server.json("/health")["sessions"], 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        no_sessions(self.server)

    async def test_a_peer_that_never_connects_is_given_up(self):
        peer = Peer()
        status, _, _ = self.server.request("POST", "/v1/live/whep?portrait=demo&size=64*64", await peer.offer(), SDP)
        self.assertEqual(status, 201)
        await peer.close()  # its port is closed too
        no_sessions(self.server)

    async def test_wrong_offers_are_told_and_leave_nothing(self):
        peer = Peer()
        offer = await peer.offer()
        no_video = offer[:offer.index("m=video")] + offer[offer.index("m=audio"):]
        path = "/v1/live/whep?portrait=demo&size=64*64"
        cases = [(path, b"", SDP, 400), (path, b"\0\xff" * 500, SDP, 400), (path, b"v=0\r\n", SDP, 400),
                 (path, b"x" * 70000, SDP, 413), (path, offer, {"Content-Type": "text/plain"}, 415),
                 (path, offer.replace("a=ice-pwd", "a=x"), SDP, 400), (path, no_video, SDP, 400),
                 (path, offer.replace("H264", "AV1").replace("VP8", "VP9"), SDP, 400),
                 (path, offer.replace("a=fingerprint", "a=x"), SDP, 400),
                 (path, offer.replace("m=video", "m=vid"), SDP, 400),
                 (path, offer + 8 * offer[offer.index("m=audio"):], SDP, 400),
                 ("/v1/live/whep?size=64*64", offer, SDP, 400), ("/v1/live/whep?portrait=nobody", offer, SDP, 404),
                 (path + "&size=7", offer, SDP, 201), ("/v1/live/whep?portrait=demo&size=7", offer, SDP, 400)]
        for at, (target, body, headers, wanted) in enumerate(cases):
            status, answer_headers, answer = await asyncio.to_thread(self.server.request, "POST", target, body, headers)
            self.assertEqual(status, wanted, (at, answer))
            if status == 201:
                self.server.request("DELETE", answer_headers["location"])
            self.assertNotIn(b"liveavatar-serve-", answer)
            no_sessions(self.server)
        self.assertEqual(self.server.request("GET", "/v1/live/whep")[0], 405)
        self.assertEqual(self.server.request("DELETE", "/v1/live/whep/none")[0], 404)
        await peer.close()

    async def test_broken_offers_never_end_the_server(self):
        peer = Peer()
        offer = await peer.offer()
        await peer.close()
        chance = random.Random(1)
        for _ in range(40):
            lines = offer.split("\r\n")
            for _ in range(chance.choice((1, 2, 4))):
                at, other = chance.randrange(len(lines)), chance.choice(lines)
                lines[at:at + 1] = chance.choice(([], [other], [lines[at], other], [lines[at][:-1]], [lines[at] + " -1"],
                                                  [lines[at] + "9" * 30], ["A" * 3000], [lines[at].swapcase()]))
            status, headers, answer = await asyncio.to_thread(
                self.server.request, "POST", "/v1/live/whep?portrait=demo&size=64*64", "\r\n".join(lines), SDP)
            self.assertIn(status, (201, 400), answer)
            if status == 201:
                self.server.request("DELETE", headers["location"])
            no_sessions(self.server)

    async def test_sessions_of_both_kinds_share_their_number(self):
        sockets = [WebSocket(self.server), WebSocket(self.server)]
        peer = Peer()
        status, answer = await peer.post(self.server)
        self.assertEqual((status, answer["error"]["code"]), (503, "sessions"))
        for socket in sockets:
            socket.close()
        no_sessions(self.server)
        await peer.close()

    async def test_many_sessions_leave_no_threads_and_no_descriptors(self):
        async def session():
            peer = Peer()
            await self.play(peer, least=3)
            self.delete(peer)
            await peer.close()
            no_sessions(self.server)

        def count():
            return self.server.metric("process_threads"), self.server.metric("process_open_fds")

        await session()  # what GStreamer keeps for good
        await asyncio.sleep(1)
        threads, files = count()
        for _ in range(5):
            await session()
        wait_until("threads and descriptors are as before", lambda: count()[0] <= threads and count()[1] <= files)


class Access(unittest.IsolatedAsyncioTestCase):
    async def test_a_key_is_asked_for_and_another_origin_is_told_where_the_session_is(self):
        with Server(PROGRAM, "--api_key", "secret", "--cors_origin", "https://example.org") as server:
            peer = Peer()
            status, _ = await peer.post(server)
            self.assertEqual(status, 401)
            key = {"Authorization": "Bearer secret"}
            offer = peer.connection.localDescription.sdp
            status, headers, _ = server.request("POST", "/v1/live/whep?portrait=demo&size=64*64", offer,
                                                {**SDP, **key, "Origin": "https://example.org"})
            self.assertEqual(status, 201)
            self.assertIn("Location", headers["access-control-expose-headers"])
            self.assertEqual(server.request("DELETE", headers["location"])[0], 401)
            self.assertEqual(server.request("DELETE", headers["location"], headers=key)[0], 200)
            await peer.close()

    async def test_the_server_ends_while_a_peer_plays(self):
        server = Server(PROGRAM, "--drain_s", 0.2)
        peer = Peer()
        await peer.post(server)
        await until("pictures come", lambda: len(peer.bright()) > 3)
        self.assertEqual(await asyncio.to_thread(server.stop), 0)
        await peer.close()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    del sys.argv[1]  # webrtc_source
    unittest.main(verbosity=2)
