#!/usr/bin/env python3
"""whip_test.py PROGRAM: videos and live sessions to a WHIP server."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from client import SOURCE, VOICE, Server, WebSocket, events_of, wait_until

sys.path.insert(0, str(SOURCE / "tests/support"))

from whip_server import KEY, WhipServer, web  # noqa: E402

PROGRAM = None
TOKEN = "t0ken-th4t-is-secret"
SIZE = "64*64"


def generate(output, *flags, env=None, audio=VOICE):
    command = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio", audio, "--size", SIZE,
               "--sample_steps", 1, "--threads", 2, "--output", output, *flags]
    environment = {k: v for k, v in os.environ.items() if k != "LIVEAVATAR_WHIP_TOKEN"}
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**environment, **(env or {})})


def end(job):
    out, err = job.communicate(timeout=120)
    return job.returncode, err


class Whip(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def assert_no_secret(self, text):
        self.assertNotIn(KEY, text)
        self.assertNotIn(TOKEN, text)

    def assert_arrived(self, call, least_frames):
        print(f"{len(call.shown())} pictures of {call.size}, {call.rate():.1f} a second; "
              f"{len(call.sound) * 0.02:.1f} s of sound, {call.loud_s():.1f} s loud", file=sys.stderr)
        self.assertGreaterEqual(len(call.shown()), least_frames)
        self.assertGreaterEqual(call.rate(), 20)
        self.assertGreater(len(call.sound) * 0.02, least_frames / 25 * 0.8)
        self.assertGreater(call.loud_s(), 0.5)

    def assert_refused(self, code, says, server, *flags, env=None):
        got, err = end(generate(server.url, "--quiet", *flags, env=env))
        self.assertEqual(got, code, err)
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertIn("--output whip+http://127.0.0.1:", err)
        self.assertIn(says, err)
        self.assert_no_secret(err)

    def generated(self, server, **options):
        code, err = end(generate(server.url, **options))
        self.assertEqual(code, 0, err)
        self.assert_no_secret(err)
        self.assertEqual(len(server.calls), 2, err)  # the first one tries the server
        for call in server.calls:
            self.assertTrue(call.is_deleted)
        return server.calls[1]

    def test_a_video_arrives_with_its_sound(self):
        with WhipServer(TOKEN) as server:
            call = self.generated(server, env={"LIVEAVATAR_WHIP_TOKEN": TOKEN})
            self.assertIn("H264/90000", call.offer)
            self.assertEqual(call.offer.count("a=sendonly"), 2)
            self.assertIn("a=candidate:", call.offer)
            self.assertEqual(call.size, (64, 64))
            self.assert_arrived(call, 200)

    def test_a_server_without_h264_gets_vp8(self):
        with WhipServer(codec="VP8") as server:
            code, err = end(generate(server.url))
            self.assertEqual(code, 0, err)
            self.assertIn("VP8/90000", server.calls[-1].offer)
            self.assert_arrived(server.calls[-1], 200)

    def test_a_wrong_token_is_one_line(self):
        token = self.folder / "token"
        token.write_text("wr0ng\n")
        with WhipServer(TOKEN) as server:
            self.assert_refused(1, "answered 401; give the server's token in --whip_token_file", server)
            self.assert_refused(1, "answered 401", server, "--whip_token_file", token)
            self.assertEqual(server.requests[-1][1]["Authorization"], "Bearer wr0ng")
            self.assertEqual(server.calls, [])

    def test_what_is_no_whip_is_one_line(self):
        def answers(status, body="", **more):
            return lambda call: web.Response(status=status, text=body, **more)
        cases = ((answers(403), "answered 403; give"), (answers(404), "answered 404; look at the address"),
                 (answers(405), "answered 405; look at the address"),
                 (answers(307, headers={"Location": "http://elsewhere.invalid/"}), "answered 307, which points"),
                 (answers(308, headers={"Location": "/other"}), "answered 308, which points elsewhere"),
                 (answers(200, "<html>"), "no application/sdp"),
                 (answers(201, content_type="application/sdp"), "no application/sdp"),
                 (answers(201, "v=0\r\n", content_type="application/sdp"), "its answer is no SDP"))
        for behave, says in cases:
            with self.subTest(says), WhipServer(behave=behave) as server:
                self.assert_refused(1, says, server)

    def test_a_call_that_never_connects_ends_after_10_s(self):
        async def deaf(*_):
            return None
        with WhipServer() as server:
            from aiortc import RTCIceTransport
            start, RTCIceTransport.start = RTCIceTransport.start, deaf
            try:
                self.assert_refused(1, "no connection over WebRTC within 10 s", server)
            finally:
                RTCIceTransport.start = start

    def test_flags_that_cannot_be_are_refused(self):
        empty = self.folder / "empty"
        empty.write_text("\n")
        for output, flags, says in (("whip+https://", [], "names no server"),
                                    ("whip+http://h:x/" + KEY, [], "the port is no number"),
                                    ("whip+https://h/" + KEY, ["--whip_token_file", empty], "--whip_token_file"),
                                    (self.folder / "a.mp4", ["--whip_token_file", empty], "is for whip+https://")):
            code, err = end(generate(output, "--quiet", *flags))
            self.assertEqual(code, 2, err)
            self.assertIn(says, err)
            self.assert_no_secret(err)

    def test_a_lost_call_is_made_again(self):
        with WhipServer() as server:
            job = generate(server.url)
            call = server.wait_for_call(1)
            wait_until("a second of it is there", lambda: len(call.shown()) > 25)
            server.drop(call)
            again = server.wait_for_call(2)
            code, err = end(job)
            self.assertEqual(code, 0, err)
            self.assertGreater(len(again.shown()), 10)
            self.assertGreater(len(again.sound), 20)

    def test_a_live_session_arrives(self):
        with WhipServer(TOKEN) as server, Server(PROGRAM, "--push", "studio=" + server.url,
                                                 env={"LIVEAVATAR_WHIP_TOKEN": TOKEN}) as program:
            session = WebSocket(program)
            session.send(type="start", portrait="demo", size=SIZE, sample_rate=24000, format="raw", push="studio")
            came = session.until_event("started")
            session.send_sound((b"\0\30" * 30 + b"\0\350" * 30) * 1600)  # 4 s of 400 Hz
            session.send(type="end_speech")
            for _ in range(10):
                came += session.until_event("stats")
            session.send(type="stop")
            came += session.until_event("stopped")
            session.close()
            self.assertEqual(events_of(came, "push_error"), [], program.log)
            wait_until("it is told that the call is over", lambda: server.calls[0].is_deleted)
            self.assertEqual(len(server.calls), 1)
            sent = program.metric("liveavatar_push_frames_total", '{target="studio"}')
            self.assert_arrived(server.calls[0], 0.8 * sent)
            self.assertEqual(program.metric("liveavatar_push_failures_total", '{target="studio"}'), 0)
            self.assert_no_secret(str(program.log) + str(came))

    def test_a_live_session_whose_server_refuses_says_why(self):
        with WhipServer(TOKEN) as server, Server(PROGRAM, "--push", "studio=" + server.url) as program:
            session = WebSocket(program)
            session.send(type="start", portrait="demo", size=SIZE, sample_rate=24000, format="raw", push="studio")
            error = session.until_event("push_error")[-1]
            self.assertEqual(error["code"], "push_lost")
            session.close()
            wait_until("it is logged", lambda: any("answered 401" in line for line in program.log))
            self.assert_no_secret(str(program.log))


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
