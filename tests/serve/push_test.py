#!/usr/bin/env python3
"""push_test.py PROGRAM: live sessions that are also sent to servers which the operator named."""
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from client import SOURCE, Server, WebSocket, events_of, wait_until

sys.path.insert(0, str(SOURCE / "tests/support"))

from receivers import (KEY, FfmpegRtmp, FfmpegSrt, NginxRtmp, Recording, SilentServer, free_port,  # noqa: E402
                       has_nginx_rtmp, has_srt)

PROGRAM = None
START = {"type": "start", "portrait": "demo", "size": "64*64", "sample_rate": 24000, "format": "raw"}
LATE_S = 3  # that a block of an undisturbed session may be late on a busy machine


def open_session(server, **fields):
    session = WebSocket(server)
    assert session.status == 101, (session.status, session.body)
    session.send(**{**START, **fields})
    return session, session.until_event("started")


def stop(session):
    session.send(type="stop")
    came = session.until_event("stopped")
    session.close()
    return came


def blocks(session, count):
    """-> what came until so many blocks were made"""
    came = []
    for _ in range(count):
        came += session.until_event("stats")
    return came


def until_stats(session, wanted):
    return session.until(lambda m: isinstance(m, dict) and m["type"] == "stats" and wanted(m["push"]))


class Push(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def serve(self, **targets):
        """A server whose targets come from the environment."""
        pushes = " ".join(f"{name}={url}" for name, url in targets.items())
        return Server(PROGRAM, "--max_sessions", 4, env={"LIVEAVATAR_PUSH": pushes})

    def assert_no_secret(self, server, *came):
        for text in [*server.log, str(came)]:
            self.assertNotIn(KEY, text)

    def arrives(self, receiver):
        with self.serve(studio=receiver.url) as server:
            session, _ = open_session(server, push="studio")
            session.send_sound(b"\1\20" * 24000)
            session.send(type="end_speech")
            came = blocks(session, 6)
            stats = events_of(came, "stats")[-1]["push"]
            self.assertTrue(stats["connected"])
            self.assertEqual((stats["dropped_frames"], stats["connections"]), (0, 1))
            came += stop(session)
            wait_until("the stream ends", lambda: server.metric("liveavatar_push_connected", '{target="studio"}') == 0)
            sent = server.metric("liveavatar_push_frames_total", '{target="studio"}')
            self.assertGreaterEqual(sent, 60)
            self.assertEqual(events_of(came, "push_error"), [])
            self.assertEqual(server.metric("liveavatar_push_failures_total", '{target="studio"}'), 0)
            self.assert_no_secret(server, came)
        receiver.finish()
        recording = Recording(receiver.file)
        self.assertEqual(recording.codecs, {"video": "h264", "audio": "aac"})
        self.assertEqual(recording.frames, sent)
        self.assertEqual(recording.decoded_frames(), sent)
        self.assertAlmostEqual(recording.seconds("video"), (sent - 1) / 25, delta=0.005)
        self.assertAlmostEqual(recording.seconds("audio"), recording.seconds("video"), delta=0.08)

    def test_rtmp_arrives(self):
        with FfmpegRtmp(self.folder) as receiver:
            self.arrives(receiver)

    @unittest.skipUnless(has_nginx_rtmp(), "no nginx with libnginx-mod-rtmp")
    def test_rtmp_arrives_at_nginx(self):
        with NginxRtmp(self.folder) as receiver:
            self.arrives(receiver)

    @unittest.skipUnless(has_srt(), "this ffmpeg has no SRT")
    def test_srt_arrives(self):
        with FfmpegSrt(self.folder) as receiver:
            self.arrives(receiver)

    def test_a_target_has_one_session_at_a_time_and_a_name(self):
        with FfmpegRtmp(self.folder) as receiver, self.serve(studio=receiver.url) as server:
            first, _ = open_session(server, push="studio")
            blocks(first, 1)
            for push, code, status in (("studio", "push_busy", 409), ("other", "not_found", 404),
                                       (receiver.url, "not_found", 404)):
                second = WebSocket(server)
                second.send(**START, push=push)
                error = second.until_event("error")[-1]
                self.assertEqual((error["code"], error["status"]), (code, status))
                self.assertNotIn("rtmp", error["message"])
                self.assertIsNone(second.receive())
                second.close()
            self.assertTrue(events_of(blocks(first, 2), "stats")[-1]["push"]["connected"])
            stop(first)
            self.assert_no_secret(server)

    def test_a_target_that_is_gone_is_tried_again_and_the_session_goes_on(self):
        port = free_port()
        with self.serve(studio=f"rtmp://127.0.0.1:{port}/live/{KEY}") as server:
            session, came = open_session(server, push="studio")
            came += blocks(session, 4)
            with FfmpegRtmp(self.folder, port=port) as receiver:
                came += until_stats(session, lambda push: push["connected"] and push["sent_frames"] > 24)
                receiver.process.kill()
                came += until_stats(session, lambda push: not push["connected"])
            with FfmpegRtmp(self.folder, port=port, name="second") as second:
                came += until_stats(session, lambda push: push["connections"] == 2 and push["connected"])
                came += blocks(session, 2)
                came += stop(session)
                second.finish()
                self.assertGreater(Recording(second.file).decoded_frames(), 12)
            errors = events_of(came, "push_error")
            self.assertEqual([(error["push"], error["code"]) for error in errors], [("studio", "push_lost")] * 2)
            self.assertGreater(server.metric("liveavatar_push_dropped_frames_total", '{target="studio"}'), 0)
            self.assertTrue(any('"push":"studio"' in line and "cannot be reached" in line for line in server.log))
            self.assert_no_secret(server, came)

    def test_a_target_that_never_reads_delays_nobody(self):
        with SilentServer() as silent, self.serve(studio=silent.url) as server:
            session, _ = open_session(server, push="studio")
            begin = time.monotonic()
            came = blocks(session, 8)
            self.assertLess(time.monotonic() - begin, 8 * 0.48 + LATE_S)
            stats = events_of(came, "stats")
            self.assertEqual(stats[-1]["push"]["sent_frames"], 0)
            self.assertGreater(stats[-1]["push"]["dropped_frames"], 0)
            begin = time.monotonic()
            stop(session)
            other, _ = open_session(server)
            self.assertNotIn("push", events_of(blocks(other, 1), "stats")[-1])
            stop(other)
            self.assertLess(time.monotonic() - begin, 2 + LATE_S)
            begin = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - begin, 3 + LATE_S)

    def test_flags_that_cannot_be_are_refused_without_their_secrets(self):
        for flags, says in ((["--push", f"studio={KEY}"], "--push studio: is no address"),
                            (["--push", f"rtmp://h/live/{KEY}"], "NAME=URL"),
                            (["--push", f"a=rtmp://h/{KEY}"], "names no stream"),
                            (["--push", "a=srt://h:1", "--push", "a=srt://h:2"], "given twice")):
            done = subprocess.run([PROGRAM, "serve", "--port", "0", *flags], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertNotIn(KEY, done.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        print("no ffmpeg and ffprobe; scripts/install-deps")
        sys.exit(77)
    unittest.main(verbosity=2)
