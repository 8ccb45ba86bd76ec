#!/usr/bin/env python3
"""live_test.py PROGRAM: live sessions of `liveavatar serve`, from start to stop."""
import array
import base64
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from client import PORTRAIT, VOICE, Server, WebSocket, binaries_of, events_of, form, wait_until

PROGRAM = None
RATE = 16000
START = {"type": "start", "portrait": "demo", "prompt": "a test", "size": "64*64", "sample_rate": RATE}


def sound(seconds, seed=1):
    """Noise that is found again: s16le"""
    values = random.Random(seed)
    return b"".join(struct.pack("<h", values.randrange(-3000, 3000)) for _ in range(int(seconds * RATE)))


class Raw:
    """A message of format raw, as docs/serve.md describes it."""

    def __init__(self, message):
        (magic, version, head, self.first_frame, self.frames, self.width, self.height, fps, rate,
         samples) = struct.unpack_from("<4sHHQIIIIII", message)
        assert (magic, version, head, fps, rate) == (b"LARW", 1, 40, 25, RATE), message[:40]
        pixels = self.frames * self.width * self.height * 3
        assert len(message) == head + pixels + 2 * samples, len(message)
        assert samples == self.frames * RATE // 25
        self.rgb = message[head:head + pixels]
        self.sound = message[head + pixels:]


def open_session(server, **fields):
    socket = WebSocket(server)
    assert socket.status == 101, (socket.status, socket.body)
    socket.send(**{**START, "format": "raw", **fields})
    return socket, socket.until_event("started")[-1]


def stop(socket):
    """-> what came until the end"""
    socket.send(type="stop")
    came = socket.until_event("stopped")
    assert socket.receive() is None and socket.close_code == 1000, socket.close_code
    socket.close()
    return came


def no_sessions(server):
    wait_until("no session is left", lambda: server.json("/health")["sessions"] == 0)


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--max_sessions", 2, "--queue_seconds", 10)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def tearDown(self):
        no_sessions(self.server)

    def test_sound_comes_back_to_the_sample_with_its_frames(self):
        socket, started = open_session(self.server)
        self.assertEqual(started, {"type": "started", "format": "raw", "width": 64, "height": 64, "fps": 25,
                                   "sample_rate": RATE})
        spoken = sound(1.3)
        pieces, at = random.Random(2), 0
        while at < len(spoken):  # odd pieces too
            size = pieces.randrange(1, 2001)
            socket.send_sound(spoken[at:at + size])
            at += size
        socket.send(type="end_speech")
        came = socket.until_event("playback_finished")
        came += stop(socket)
        chunks = [Raw(message) for message in binaries_of(came)]
        self.assertEqual([chunk.first_frame for chunk in chunks], list(range(0, 4 * len(chunks), 4)))
        heard = b"".join(chunk.sound for chunk in chunks)
        begin = heard.find(spoken)
        self.assertGreaterEqual(begin, 0)
        self.assertEqual(heard[:begin].strip(b"\0") + heard[begin + len(spoken):].strip(b"\0"), b"")
        chunk_of_begin, *_, chunk_of_end = [c for c in chunks if c.sound.strip(b"\0")]
        self.assertEqual(events_of(came, "playback_finished"),
                         [{"type": "playback_finished", "speech": 0, "position_s": 1.3, "interrupted": False,
                           "time_s": (chunk_of_end.first_frame + 4) / 25}])
        begun = events_of(came, "playback_started")
        self.assertEqual([event["speech"] for event in begun], [0])
        self.assertAlmostEqual(begun[0]["time_s"], chunk_of_begin.first_frame / 25, 5)
        stats = events_of(came, "stats")
        self.assertEqual([event["block"] for event in stats], list(range(len(stats))))
        for key in ("hear_ms", "sample_ms", "decode_ms", "send_ms", "late_s", "paused_s", "gaps", "queued_s"):
            self.assertIn(key, stats[0])
        self.assertGreater(len({chunk.rgb for chunk in chunks}), 1)

    def test_mp4_is_an_init_segment_and_fragments_that_play(self):
        socket, started = open_session(self.server, format="mp4", sample_rate=24000)
        self.assertRegex(started["mime"], r'^video/mp4; codecs="avc1\.[0-9a-fA-F]{6},opus"$')
        socket.send_sound(sound(1))
        socket.send(type="end_speech")
        came = socket.until_event("playback_finished") + stop(socket)
        segments = binaries_of(came)
        self.assertEqual(segments[0][4:8], b"ftyp")
        self.assertIn(b"moov", segments[0])
        self.assertNotIn(b"moof", segments[0])
        for segment in segments[1:]:
            self.assertIn(b"moof", segment[:64])
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "live.mp4"
            video.write_bytes(b"".join(segments))
            done = subprocess.run([PROGRAM, "sheet", video, Path(folder) / "x.png"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_portrait_may_come_with_the_start(self):
        big = base64.b64encode(PORTRAIT.read_bytes()).decode()
        for portrait in (big, "data:image/png;base64," + big):
            socket, _ = open_session(self.server, portrait=portrait)
            stop(socket)

    def test_sound_and_events_may_follow_the_start_at_once(self):
        socket = WebSocket(self.server)
        socket.send(**START, format="raw")
        socket.send_sound(sound(0.4))
        socket.send(type="end_speech")
        socket.send(type="ping", id="a")
        came = socket.until_event("playback_finished")
        self.assertEqual(came[-1]["position_s"], 0.4)
        self.assertEqual(events_of(came, "pong"), [{"type": "pong", "id": "a"}])
        stop(socket)

    def test_an_interruption_stops_the_speech_and_tells_where(self):
        socket, _ = open_session(self.server)
        spoken = sound(6)
        socket.send_sound(spoken)
        socket.send(type="end_speech")
        socket.send_sound(sound(1, seed=5))  # waits behind it
        came = socket.until_event("playback_started")
        socket.send(type="interrupt")
        came += socket.until(lambda m: isinstance(m, dict) and m["type"] == "playback_finished" and m["speech"] == 0)
        interrupted = events_of(came, "interrupted")[0]
        finished = {event["speech"]: event for event in events_of(came, "playback_finished")}
        self.assertEqual(finished[1], {"type": "playback_finished", "speech": 1, "position_s": 0.0, "interrupted": True})
        self.assertTrue(finished[0]["interrupted"])
        self.assertLess(finished[0]["position_s"], 6)
        self.assertEqual(finished[0]["position_s"], interrupted["position_s"])
        socket.send_sound(sound(0.2, seed=6))
        socket.send(type="end_speech")
        came += socket.until_event("playback_finished")
        self.assertEqual((came[-1]["speech"], came[-1]["position_s"]), (2, 0.2))
        came += stop(socket)
        heard = b"".join(Raw(message).sound for message in binaries_of(came))
        played = round(finished[0]["position_s"] * RATE) * 2
        self.assertIn(spoken[:played], heard)
        self.assertNotIn(spoken[:played + 64], heard)
        self.assertNotIn(sound(1, seed=5)[:64], heard)

    def test_an_interruption_of_silence_is_answered(self):
        socket, _ = open_session(self.server)
        socket.send(type="interrupt")
        came = socket.until_event("interrupted")
        self.assertEqual(came[-1], {"type": "interrupted", "speech": -1, "position_s": 0.0})
        stop(socket)

    def test_two_sessions_speak_beside_each_other_and_a_third_is_refused(self):
        sockets = [open_session(self.server, seed=seed)[0] for seed in (1, 2)]
        third = WebSocket(self.server)
        self.assertEqual((third.status, json.loads(third.body)["error"]["code"]), (503, "sessions"))
        self.assertIn("retry-after", third.headers)
        for at, socket in enumerate(sockets):
            socket.send_sound(sound(0.5, seed=at))
            socket.send(type="end_speech")
        for at, socket in enumerate(sockets):
            came = socket.until_event("playback_finished") + stop(socket)
            self.assertIn(sound(0.5, seed=at), b"".join(Raw(message).sound for message in binaries_of(came)))

    def test_jobs_and_sessions_take_turns(self):
        socket, _ = open_session(self.server)
        headers, body = form({"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()},
                             {"size": "64*64", "infer_frames": "24", "sample_steps": "100"})
        video = json.loads(self.server.request("POST", "/v1/videos", body, headers)[2])["id"]
        socket.until_event("stats")
        socket.until_event("stats")
        self.assertEqual(self.server.json("/v1/videos/" + video)["status"], "queued")
        stop(socket)
        wait_until("the job runs", lambda: self.server.json("/v1/videos/" + video)["status"] == "running")
        refused = WebSocket(self.server)
        self.assertEqual((refused.status, json.loads(refused.body)["error"]["code"]), (503, "job"))
        self.assertIn("retry-after", refused.headers)
        self.server.request("DELETE", "/v1/videos/" + video)
        wait_until("a session is taken again", self.takes_a_session)

    def takes_a_session(self):
        socket = WebSocket(self.server)
        socket.close()
        return socket.status == 101

    def test_wrong_starts_are_told_what_is_wrong(self):
        cases = [({"portrait": ""}, "portrait"), ({"portrait": "nobody"}, "portrait"),
                 ({"portrait": "/etc/passwd"}, "portrait"), ({"portrait": "http://127.0.0.1/x.png"}, "portrait"),
                 ({"portrait": base64.b64encode(b"no image" * 20).decode()}, "image"), ({"size": "7"}, "size"),
                 ({"sample_rate": 12345}, "sample_rate"), ({"sample_rate": "high"}, "sample_rate"),
                 ({"format": "webm"}, "format"), ({"sample_steps": 0}, "sample_steps"),
                 ({"samplerate": 16000}, "samplerate")]
        for fields, word in cases:
            socket = WebSocket(self.server)
            socket.send(**{**START, "format": "raw", **fields})
            error = socket.until_event("error")[-1]
            self.assertIn(word, error["message"])
            self.assertNotIn("liveavatar-serve-", error["message"])
            self.assertIsNone(socket.receive())
            self.assertIn(socket.close_code, (1008, 1013))
            socket.close()
            no_sessions(self.server)

    def test_wrong_events_are_told_and_the_session_goes_on(self):
        socket, _ = open_session(self.server)
        for text in (b"{", b'{"type":"sing"}', b"[]", json.dumps(START).encode(), b" " * 70000):
            socket.send_frame(1, text)
            self.assertEqual(socket.until_event("error")[-1]["status"], 400)
        socket.send_sound(sound(11))  # longer than the queue
        self.assertEqual(socket.until_event("error")[-1]["code"], "queue_full")
        socket.send_sound(sound(0.2))
        socket.send(type="end_speech")
        self.assertEqual(socket.until_event("playback_finished")[-1]["position_s"], 0.2)
        stop(socket)

    def test_opus_in_webm_and_ogg_is_heard_as_it_comes(self):
        for container in ("webm", "ogg"):
            encoded = subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:duration=2", "-c:a", "libopus", "-f", container,
                 *(["-live", "1"] if container == "webm" else []), "-"], capture_output=True, check=True).stdout
            socket, _ = open_session(self.server, audio=container)
            cut = random.Random(1)
            while encoded:
                size = cut.randrange(1, 400)
                socket.send_sound(encoded[:size])
                encoded = encoded[size:]
            socket.send(type="end_speech")
            came = socket.until_event("playback_finished")
            self.assertAlmostEqual(came[-1]["position_s"], 2, delta=0.05)
            came += stop(socket)
            heard = array.array("h", b"".join(Raw(message).sound for message in binaries_of(came)))
            tone = [value for value in heard if value]
            crossings = sum((a < 0) != (b < 0) for a, b in zip(tone, tone[1:]))
            self.assertAlmostEqual(crossings / 2 / (len(tone) / RATE), 440, delta=5)

    def test_what_is_no_opus_ends_the_session(self):
        for container in ("webm", "ogg"):
            socket, _ = open_session(self.server, audio=container)
            for _ in range(3):
                socket.send_sound(b"no sound" * 5000)
            event = socket.until_event("error")[-1]
            self.assertIn("Opus", event["message"])
            while socket.receive() is not None:
                pass
            self.assertEqual(socket.close_code, 1008)
            socket.close()

    def test_the_prompt_and_the_portrait_change_while_it_runs(self):
        socket, _ = open_session(self.server, allow_changes=True)
        socket.send(type="set_prompt", prompt="another sentence")
        came = socket.until_event("prompt_changed")
        self.assertGreaterEqual(came[-1]["time_s"], 0)
        socket.send(type="set_portrait", portrait="demo")
        changed = socket.until_event("portrait_changed")[-1]
        self.assertGreaterEqual(changed["time_s"], came[-1]["time_s"])
        self.assertAlmostEqual(changed["time_s"] % 0.48, 0, 5)
        for wrong, code in (({"portrait": "nobody"}, "not_found"), ({"portrait": "/etc/passwd"}, "invalid_argument"),
                            ({"portrait": 3}, "invalid_argument"), ({"portrait": "bm8gaW1hZ2U="}, "invalid_argument")):
            socket.send(type="set_portrait", **wrong)
            error = socket.until_event("error")[-1]
            self.assertEqual(error["code"], code, error)
            self.assertNotIn("/tmp", error["message"])
        stop(socket)

    def test_changes_must_be_allowed_and_come_one_at_a_time(self):
        socket, _ = open_session(self.server)
        socket.send(type="set_prompt", prompt="another sentence")
        self.assertIn("allow_changes", socket.until_event("error")[-1]["message"])
        stop(socket)
        socket, _ = open_session(self.server, allow_changes=True)
        for _ in range(3):
            socket.send(type="set_prompt", prompt="another sentence")
        came = socket.until_event("prompt_changed")
        self.assertEqual([error["code"] for error in events_of(came, "error")], ["busy", "busy"])
        stop(socket)

    def test_a_flood_of_speeches_is_told_and_the_session_goes_on(self):
        socket, _ = open_session(self.server)
        for _ in range(400):
            socket.send_sound(b"\1\0")
            socket.send(type="end_speech")
        self.assertEqual(socket.until_event("error")[-1]["code"], "queue_full")
        socket.send(type="interrupt")
        socket.until_event("interrupted")
        stop(socket)

    def test_sound_before_the_start_ends_the_socket(self):
        socket = WebSocket(self.server)
        socket.send_sound(sound(0.1))
        self.assertIn("start", socket.until_event("error")[-1]["message"])
        self.assertIsNone(socket.receive())
        socket.close()


class Limits(unittest.TestCase):
    def test_a_silent_client_and_an_old_session_are_ended(self):
        for flags, code in ((["--session_idle_s", 0.5], "idle"), (["--session_lifetime_s", 0.5], "lifetime")):
            with Server(PROGRAM, *flags) as server:
                socket = WebSocket(server)
                socket.send(**START, format="raw")  # on a loaded machine the limit comes before `started`
                self.assertEqual(socket.until_event("error")[-1]["code"], code)
                self.assertIsNone(socket.receive())
                self.assertEqual(socket.close_code, 1000)
                socket.close()
                no_sessions(server)

    def test_jobs_that_are_cancelled_while_they_wait_are_forgotten(self):
        with Server(PROGRAM, "--keep_videos", 2) as server:
            socket, _ = open_session(server)  # no job begins
            videos = [self.cancelled_job(server) for _ in range(4)]
            kept = [video["id"] for video in server.json("/v1/videos")["data"]]
            self.assertEqual(kept, [videos[3], videos[2]])
            stop(socket)

    @staticmethod
    def cancelled_job(server):
        headers, body = form({"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}, {"size": "64*64"})
        video = json.loads(server.request("POST", "/v1/videos", body, headers)[2])["id"]
        assert json.loads(server.request("DELETE", "/v1/videos/" + video)[2])["status"] == "cancelled"
        return video

    def test_a_session_that_does_not_fit_is_refused_with_what_is_missing(self):
        with Server(PROGRAM, "--memory_budget", "90MiB") as server:
            socket = WebSocket(server)
            socket.send(**{**START, "format": "raw", "size": "704*384"})
            error = socket.until_event("error")[-1]
            self.assertEqual((error["code"], error["status"]), ("out_of_memory", 503))
            self.assertRegex(error["message"], r"takes \d+ MiB.*\d+ MiB are left")
            socket.close()
            headers, body = form({"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}, {"size": "704*384"})
            status, headers, answer = server.request("POST", "/v1/videos", body, headers)
            self.assertEqual(status, 503, answer)
            self.assertEqual(json.loads(answer)["error"]["code"], "out_of_memory")
            self.assertIn("retry-after", headers)

    def test_sessions_go_on_while_the_server_drains_and_are_told_when_it_ends(self):
        server = Server(PROGRAM, "--drain_s", 4, "--max_sessions", 2)
        socket, _ = open_session(server)
        waiting = WebSocket(server)
        begun_job = self.half_a_job(server)
        server.terminate()
        wait_until("it drains", lambda: server.get("/health")[0] == 503)
        socket.until_event("stats")
        self.assertEqual(WebSocket(server).status, 503)
        self.finish_half_a_job(server, *begun_job)
        waiting.send(**START)
        self.assertEqual(waiting.until_event("error")[-1]["code"], "draining")
        self.assertIsNone(waiting.receive())
        waiting.close()
        self.assertEqual(socket.until_event("error")[-1]["code"], "draining")
        self.assertIsNone(socket.receive())
        self.assertEqual(socket.close_code, 1001)
        socket.close()
        self.assertEqual(server.stop(), 0)

    @staticmethod
    def half_a_job(server):
        """-> a connection, and what it has not sent yet"""
        headers, body = form({"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}, {"size": "64*64"})
        head = f"POST /v1/videos HTTP/1.0\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = server.connect()
        connection.sendall(head.encode() + b"\r\n" + body[:100])
        server.get("/health")  # so that the head was read before what comes next
        return connection, body[100:]

    def finish_half_a_job(self, server, connection, rest):
        connection.sendall(rest)
        answer = connection.makefile("rb").read()
        self.assertIn(b" 503 ", answer.splitlines()[0])
        self.assertIn(b"draining", answer)
        self.assertEqual(server.json("/v1/videos")["data"], [])
        connection.close()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
