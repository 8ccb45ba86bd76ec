#!/usr/bin/env python3
"""stopped_test.py PROGRAM [SHIM]: a server that stood still for a time (Ctrl-Z, a laptop that slept) while sessions were
open, and one whose clock jumps."""
import os
import signal
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from client import Server, WebSocket, binaries_of, events_of, wait_until
from live_test import START, Raw, no_sessions, sound

PROGRAM, SHIM = None, None
FPS, BLOCK_FRAMES = 25, 12
LOOKS = 100  # at the wall clock: more than a server takes to begin
SHORT_S, LONG_S = 6, 35  # the latter: longer than the server waits for a socket (30 s)


class Client:
    """A session whose chunks are read as they come, with the times at which they do."""

    def __init__(self, server, **fields):
        self.socket = WebSocket(server)
        self.socket.send(**{**START, "format": "raw", **fields})
        self.came, self.frames_at = self.socket.until_event("started"), []
        self.is_talking = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            while (message := self.socket.receive()) is not None:
                self.came.append(message)
                if isinstance(message, bytes):
                    self.frames_at.append((time.monotonic(), Raw(message).frames))
        except OSError:
            pass  # it went away itself

    def frames_since(self, begin):
        return sum(frames for at, frames in list(self.frames_at) if at >= begin)

    def stats(self):
        return events_of(list(self.came), "stats")

    def talk(self):
        """Like a microphone: 20 ms at a time, also while nobody takes it."""
        self.is_talking = True
        packet = sound(0.02)

        def send():
            begin, sent = time.monotonic(), 0
            while self.is_talking:
                self.socket.send_sound(packet)
                sent += 1
                time.sleep(max(0, begin + 0.02 * sent - time.monotonic()))

        self.talker = threading.Thread(target=send, daemon=True)
        self.talker.start()

    def fall_silent(self):
        self.is_talking = False
        self.talker.join()

    def vanish(self):
        self.socket.socket.shutdown(2)  # the reader stands in a read, which keeps the file open
        self.reader.join()
        self.socket.reset()

    def end(self):
        """-> the reason that the server gave, if it ended the session before"""
        if self.reader.is_alive():
            self.socket.send(type="stop")
        self.reader.join(60)
        self.socket.close()
        errors = events_of(self.came, "error")
        return errors[-1] if errors else None


class Stopped(unittest.TestCase):
    def setUp(self):
        self.server = Server(PROGRAM, "--max_sessions", 4, "--queue_seconds", 20)
        self.pid = self.server.process.pid

    def tearDown(self):
        os.kill(self.pid, signal.SIGCONT)
        self.assertEqual(self.server.stop(), 0, self.server.log[-5:])

    def counts(self):
        return [len(os.listdir(f"/proc/{self.pid}/{what}")) for what in ("task", "fd")]

    def stand_still(self, seconds):
        """-> when it went on"""
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)
        return time.monotonic()

    def await_frames(self, client, frames):
        begin = time.monotonic()
        wait_until("frames", lambda: client.frames_since(begin) >= frames)

    def is_served(self):
        """A new client is."""
        client = Client(self.server)
        self.await_frames(client, FPS)
        self.assertIsNone(client.end())
        no_sessions(self.server)

    def test_after_it_there_is_no_burst_and_no_queue_that_grows(self):
        client = Client(self.server, microphone=True)
        client.talk()
        self.await_frames(client, 2 * FPS)
        went_on = self.stand_still(SHORT_S)
        for seconds in (1, 4):
            time.sleep(max(0, went_on + seconds - time.monotonic()))
            self.assertLessEqual(client.frames_since(went_on), seconds * FPS + 2 * BLOCK_FRAMES)
        stats = client.stats()
        self.assertGreaterEqual(stats[-1]["paused_s"], SHORT_S - 1)
        self.assertLess(stats[-1]["late_s"], 1)
        wait_until("what was said meanwhile is dropped", lambda: client.stats()[-1]["queued_s"] < 1, 10)
        self.assertTrue(events_of(list(client.came), "interrupted"))
        time.sleep(3)
        self.assertLess(client.stats()[-1]["queued_s"], 1, client.stats())
        client.fall_silent()
        self.assertIsNone(client.end())

    def test_sound_that_is_no_microphones_is_kept(self):
        client = Client(self.server)
        self.await_frames(client, FPS)
        client.socket.send_sound(sound(10))
        self.stand_still(SHORT_S)
        self.await_frames(client, 4 * FPS)
        self.assertFalse(events_of(list(client.came), "interrupted"))
        self.assertGreater(client.stats()[-1]["queued_s"], 2)
        self.assertIsNone(client.end())

    def test_clients_that_stay_go_and_come_after_a_long_sleep(self):
        self.is_served()
        before = self.counts()
        stays, goes, falls_silent = Client(self.server), Client(self.server), Client(self.server)
        for client in (stays, goes, falls_silent):
            self.await_frames(client, FPS)
        os.kill(self.pid, signal.SIGSTOP)
        goes.vanish()
        went_on = self.stand_still(LONG_S)
        self.await_frames(stays, 2 * FPS)
        self.assertLessEqual(stays.frames_since(went_on), (time.monotonic() - went_on) * FPS + 2 * BLOCK_FRAMES)
        wait_until("the session of the one that went ends", lambda: self.server.json("/health")["sessions"] == 2)
        self.assertIsNone(stays.end())
        self.assertIsNone(falls_silent.end())
        no_sessions(self.server)
        self.is_served()
        wait_until("threads and files are those of before", lambda: self.counts() == before)

    def test_a_session_that_ends_by_it_says_why(self):
        self.assertEqual(self.server.stop(), 0)
        self.server = Server(PROGRAM, "--session_idle_s", 3)
        self.pid = self.server.process.pid
        self.is_served()
        before = self.counts()
        client = Client(self.server)
        self.stand_still(5)
        client.reader.join(10)
        self.assertEqual((client.end()["code"], client.socket.close_code), ("idle", 1000))
        no_sessions(self.server)
        self.is_served()
        wait_until("threads and files are those of before", lambda: self.counts() == before)


class Jumping(unittest.TestCase):
    def test_a_clock_that_jumps_by_an_hour_is_not_noticed(self):
        if SHIM is None:
            self.skipTest("without the shim")
        for seconds in (3600, -3600):
            with tempfile.TemporaryDirectory() as folder:
                self.jump(Path(folder), seconds)

    def jump(self, folder, seconds):
        """The log of requests has the wall clock's time: a jump comes with one of many, while a session runs."""
        hits = folder / "hits"
        variables = {"LD_PRELOAD": str(SHIM), "FAULT": f"clock:{LOOKS}:{seconds}+", "FAULT_LOG": str(hits)}
        with Server(PROGRAM, "--access_log", folder / "access.log", env=variables) as server:
            client = Client(server)
            begin = time.monotonic()
            wait_until("frames", lambda: client.frames_since(begin) >= 2 * FPS)
            self.assertNotIn("hit clock", hits.read_text() if hits.exists() else "")
            for _ in range(LOOKS):
                self.assertEqual(server.get("/health")[0], 200)
            self.assertIn("hit clock", hits.read_text())
            jumped = time.monotonic()
            wait_until("frames", lambda: client.frames_since(jumped) >= 2 * FPS)
            self.assertLessEqual(client.frames_since(jumped), (time.monotonic() - jumped) * FPS + 2 * BLOCK_FRAMES)
            self.assertIsNone(client.end())
            no_sessions(server)
            other = Client(server)
            wait_until("frames", lambda: len(binaries_of(other.came)) >= 6)
            self.assertIsNone(other.end())


if __name__ == "__main__":
    arguments = [Path(argument).resolve() for argument in sys.argv[1:3] if not argument.startswith("-")]
    PROGRAM, SHIM = (arguments + [None])[:2]
    del sys.argv[1:1 + len(arguments)]
    unittest.main()
