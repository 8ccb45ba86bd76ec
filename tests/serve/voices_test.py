#!/usr/bin/env python3
"""voices_test.py PROGRAM: `liveavatar serve` speaks texts, in live sessions and by POST /v1/audio/speech."""
import json
import os
import shutil
import struct
import sys
import tempfile
import time
import unittest
from pathlib import Path
from socket import SHUT_WR

from client import Server, WebSocket, binaries_of, events_of, wait_until
from stand_ins import RATE, StandIn, tone, wav

PROGRAM = None
START = {"type": "start", "portrait": "demo", "size": "64*64", "sample_rate": RATE, "format": "raw"}
HAS_ESPEAK = (Path(sys.argv[1]).resolve().parent.parent / "lib/liveavatar/espeak.so").exists()


def open_session(server, **fields):
    socket = WebSocket(server)
    assert socket.status == 101, (socket.status, socket.body)
    socket.send(**{**START, **fields})
    came = socket.until(lambda m: isinstance(m, dict) and m["type"] in ("started", "error"))
    assert came[-1]["type"] == "started", came[-1]
    return socket


def sound_of(messages):
    """of raw messages"""
    sound = b""
    for message in binaries_of(messages):
        frames, width, height = struct.unpack_from("<III", message, 16)
        sound += message[40 + frames * width * height * 3:]
    return sound


def posted(server, **fields):
    """-> status, content type, body of POST /v1/audio/speech"""
    status, headers, body = server.request("POST", "/v1/audio/speech", json.dumps(fields).encode(),
                                           {"Content-Type": "application/json"})
    return status, headers.get("content-type"), body


class WithVoice(unittest.TestCase):
    """A server whose voice is a stand-in."""

    @classmethod
    def setUpClass(cls):
        cls.stand_in = StandIn(key="secret-1").__enter__()
        cls.server = Server(PROGRAM, *cls.stand_in.flags, "--reply_timeout_s", 2, "--queue_seconds", 5,
                            env={"LIVEAVATAR_SPEECH_KEY": "secret-1",
                                 "http_proxy": "http://127.0.0.1:9"})  # which is not asked

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]
        assert "secret-1" not in "\n".join(cls.server.log)
        cls.stand_in.__exit__()

    def tearDown(self):
        wait_until("no session is left", lambda: self.server.json("/health")["sessions"] == 0)
        wait_until("nothing is asked any more", lambda: self.stand_in.open == 0, 10)


class Say(WithVoice):
    def test_a_text_is_one_speech_and_its_first_sentence_does_not_wait_for_the_rest(self):
        socket = open_session(self.server)
        socket.send(type="say", id=7, text="Hello there. This takes its time, SLOW as it is. End", voice="nova")
        came = socket.until_event("playback_finished")
        socket.close()
        self.assertEqual(events_of(came, "saying"), [{"type": "saying", "id": 7, "speech": 0}])
        self.assertEqual([e["speech"] for e in events_of(came, "playback_started")], [0])
        self.assertFalse(came[-1]["interrupted"])
        sentences = ["Hello there.", "This takes its time, SLOW as it is.", "End"]
        heard = sound_of(came)
        for sentence in sentences:
            self.assertIn(tone(sentence)[:4000], heard)
        self.assertAlmostEqual(came[-1]["position_s"], sum(len(s) for s in sentences) * 0.03, 2)
        asked = self.stand_in.sent("/v1/audio/speech")[-3:]
        self.assertEqual([a["input"] for a in asked], sentences)
        self.assertEqual({a["voice"] for a in asked}, {"nova"})
        self.assertEqual(events_of(came, "error"), [])

    def test_texts_follow_each_other_as_speeches(self):
        socket = open_session(self.server)
        for text in ("One.", "Two.", "Three."):
            socket.send(type="say", text=text)
        finished = []
        while len(finished) < 3:
            finished.append(socket.until_event("playback_finished")[-1])
        self.assertEqual([e["speech"] for e in finished], [0, 1, 2])
        socket.send_sound(b"\1\1" * 2400)  # and a client's own sound is the next
        socket.send(type="end_speech")
        self.assertEqual(socket.until_event("playback_finished")[-1]["speech"], 3)
        socket.close()

    def test_an_interruption_ends_what_is_said_and_what_waits(self):
        socket = open_session(self.server)
        socket.send(type="say", text="A long text goes on. " * 60)
        socket.send(type="say", text="It never begins.")
        came = socket.until_event("playback_started")
        socket.send(type="interrupt")
        came += socket.until_event("playback_finished")
        self.assertTrue(came[-1]["interrupted"])
        self.assertLess(came[-1]["position_s"], 5)
        count = len(self.stand_in.sent("/v1/audio/speech"))
        socket.send(type="say", text="Another.")
        came = socket.until_event("playback_finished")
        self.assertEqual(came[-1]["position_s"], 0.24)
        self.assertEqual(len(self.stand_in.sent("/v1/audio/speech")), count + 1)
        socket.close()

    def test_a_voice_that_fails_is_told_and_the_session_goes_on(self):
        socket = open_session(self.server)
        for text, words in (("FAIL", "answered 500"), ("GARBAGE", "no WAV"), ("HUGE", "WAV"), ("ELSEWHERE", "302"),
                            ("HANG", "sent nothing for 2 s"), ("HALF of it", "sent nothing")):
            socket.send(type="say", text=text)
            error = socket.until_event("error")[-1]
            self.assertEqual((error["code"], error["status"]), ("speech", 502), error)
            self.assertIn(words, error["message"])
            self.assertNotIn("127.0.0.1", error["message"])
            self.assertNotIn("luck", error["message"])  # what the other server wrote is not for visitors
        socket.send(type="say", text="Well.")
        came = socket.until(lambda m: isinstance(m, dict) and m["type"] == "playback_finished" and not m["interrupted"]
                            and m["position_s"] == 0.15)
        self.assertEqual(events_of(came, "error"), [])
        socket.close()

    def test_wrong_texts_are_told(self):
        socket = open_session(self.server)
        for fields in ({}, {"text": ""}, {"text": "..."}, {"text": 5}, {"text": "x" * 17000}, {"text": "a\0b"},
                       {"text": "a", "voice": 5}):
            socket.send(type="say", **fields)
            self.assertEqual(socket.until_event("error")[-1]["code"], "invalid_argument", fields)
        for _ in range(40):
            socket.send(type="say", text="SLOW and long enough to be in the way of all the others.")
        self.assertEqual(socket.until_event("error")[-1]["code"], "queue_full")
        socket.send(type="ask", text="who?")
        self.assertIn("converse", socket.until(lambda m: isinstance(m, dict) and m["type"] == "error"
                                               and m["code"] != "queue_full")[-1]["message"])
        socket.close()

    def test_sound_beside_a_text_is_dropped_and_told_once(self):
        socket = open_session(self.server)
        socket.send(type="say", text="SLOW enough that the sound comes while this is said, which takes some seconds.")
        socket.until_event("saying")
        for _ in range(20):
            socket.send_sound(b"\x77\x07" * 480)
        came = socket.until_event("playback_finished")
        self.assertEqual([e["code"] for e in events_of(came, "error")], ["busy"])
        self.assertNotIn(b"\x77\x07" * 480, sound_of(came))
        socket.close()

    def test_a_client_that_vanishes_ends_what_is_said(self):
        for _ in range(3):
            socket = open_session(self.server)
            socket.send(type="say", text="HANG")
            socket.send(type="say", text="A long text goes on. " * 100)
            time.sleep(0.2)
            begin = time.monotonic()
            socket.reset()
            wait_until("no session is left", lambda: self.server.json("/health")["sessions"] == 0, 10)
            self.assertLess(time.monotonic() - begin, 1.9)  # no wait for the other server

    def test_without_a_conversation_none_begins(self):
        socket = WebSocket(self.server)
        socket.send(**START, converse=True)
        self.assertIn("--chat_url".strip("-"), socket.until_event("error")[-1]["message"])
        self.assertIsNone(socket.receive())
        socket.close()


class Route(WithVoice):
    def test_it_answers_with_wav_or_pcm(self):
        text = "One sentence. Another one."
        pcm = tone("One sentence.") + tone("Another one.")
        self.assertEqual(posted(self.server, input=text, voice="alloy", model="tts-1"),
                         (200, "audio/wav", wav(pcm)))
        self.assertEqual(posted(self.server, input=text, response_format="pcm"), (200, "audio/pcm", pcm))

    def test_errors_are_told(self):
        for fields, status, words in (
                ({}, 400, "nothing to speak"), ({"input": "a", "response_format": "mp3"}, 400, "wav"),
                ({"input": "x" * 9000}, 400, "bytes"), ({"input": 7}, 400, "input"),
                ({"input": "FAIL"}, 502, "answered 500"), ({"input": "GARBAGE"}, 502, "no WAV"),
                ({"input": "HANG"}, 502, "sent nothing")):
            got, _, body = posted(self.server, **fields)
            self.assertEqual(got, status, body)
            self.assertIn(words, json.loads(body)["error"]["message"])
        self.assertEqual(self.server.request("POST", "/v1/audio/speech", b"{")[0], 400)
        self.assertEqual(self.server.request("GET", "/v1/audio/speech")[0], 405)

    def test_it_is_described(self):
        self.assertIn("/v1/audio/speech", self.server.json("/openapi.json")["paths"])
        capabilities = self.server.json("/v1/models")["data"][0]["capabilities"]
        self.assertEqual(capabilities, {"say": True, "converse": False})

    def test_many_at_once_are_served_or_told_to_wait(self):
        connections = []
        for _ in range(14):
            socket = self.server.connect()
            body = json.dumps({"input": "SLOW and a little longer."}).encode()
            socket.sendall(b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
                           + body)
            connections.append(socket)
        heads = sorted(socket.recv(12) for socket in connections[8:])
        self.assertIn(b"HTTP/1.1 503", heads)
        self.assertEqual(connections[0].recv(12), b"HTTP/1.1 200")
        for socket in connections:  # without reading
            socket.close()
        wait_until("it is free again", lambda: posted(self.server, input="Well.")[0] == 200)

    def ask(self, text):
        """-> a connection that waits"""
        socket = self.server.connect()
        body = json.dumps({"input": text}).encode()
        socket.sendall(b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
                       + body)
        return socket

    def test_clients_that_go_while_they_wait_give_their_places_back_at_once(self):
        for leave in (lambda socket: socket.close(), lambda socket: socket.shutdown(SHUT_WR)):
            gone = [self.ask("HANG") for _ in range(8)]
            wait_until("two are spoken", lambda: self.stand_in.open == 2)
            for socket in gone:
                leave(socket)
            begin = time.monotonic()
            wait_until("there is a place", lambda: posted(self.server, input="Well.")[0] == 200)
            self.assertLess(time.monotonic() - begin, 1.5)  # not --reply_timeout_s


class Drain(unittest.TestCase):
    def test_what_waits_is_refused_at_once(self):
        with StandIn() as stand_in, Server(PROGRAM, *stand_in.flags, "--reply_timeout_s", 20, "--drain_s", 2) as server:
            connections = [Route.ask(self, "HANG") for self.server in [server] * 4]
            wait_until("two are spoken", lambda: stand_in.open == 2)
            begin = time.monotonic()
            server.terminate()
            heads = [socket.recv(12) for socket in connections[2:]]
            self.assertEqual(heads, [b"HTTP/1.1 503"] * 2)
            self.assertLess(time.monotonic() - begin, 1.5)
            self.assertEqual(server.stop(), 0)  # those that are spoken have --drain_s
            self.assertLess(time.monotonic() - begin, 10)


class Keys(unittest.TestCase):
    def test_a_wrong_key_is_told_and_never_shown(self):
        with StandIn(key="right") as stand_in, tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "key"
            for key, status in (("wrong-9", 502), ("right", 200)):
                file.write_text(key + "\n")
                with Server(PROGRAM, *stand_in.flags, "--speech_key_file", file) as server:
                    got, _, body = posted(server, input="Hello.", response_format="pcm")
                    self.assertEqual(got, status, body)
                    self.assertNotIn(b"wrong-9", body)
                    self.assertNotIn(b"right", body)


class Absent(unittest.TestCase):
    def check_has_none(self, server, words):
        self.assertNotIn("/v1/audio/speech", server.json("/openapi.json")["paths"])
        self.assertEqual(server.json("/v1/models")["data"][0]["capabilities"], {"say": False, "converse": False})
        status, _, body = posted(server, input="Hello.")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (501, "no_speech"))
        self.assertIn(words, json.loads(body)["error"]["message"])
        socket = open_session(server)
        socket.send(type="say", text="Hello.")
        error = socket.until_event("error")[-1]
        self.assertEqual(error["code"], "no_speech")
        self.assertIn(words, error["message"])
        socket.send_sound(b"\1\1" * 2400)
        socket.send(type="end_speech")
        socket.until_event("playback_finished")
        socket.close()

    def test_what_is_missing_for_a_conversation_is_told_at_the_start(self):
        with StandIn() as stand_in, Server(PROGRAM, *stand_in.flags, "--chat_url", "http://127.0.0.1:1") as server:
            self.assertIn("--transcription_url", "\n".join(server.log))

    def test_a_server_without_speech_says_so(self):
        with Server(PROGRAM, "--no_speech") as server:
            self.check_has_none(server, "started without speech")

    def test_without_the_plugin_it_says_what_to_install(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "bin" / "liveavatar"
            program.parent.mkdir()
            shutil.copy(PROGRAM, program)
            with Server(program) as server:
                self.check_has_none(server, "install libespeak-ng-dev")
            for flags, words in ((["--speech_voice", "en"], "install libespeak-ng-dev"),
                                 (["--speech_url", "ftp://x"], "http://"), (["--chat_url", "x"], "--chat_url"),
                                 (["--speech_key_file", "/dev/null"], "--speech_url")):
                with self.assertRaisesRegex(AssertionError, words):
                    Server(program, *flags)


@unittest.skipUnless(HAS_ESPEAK, "built without espeak-ng")
class Espeak(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def test_it_speaks_without_flags(self):
        socket = open_session(self.server, sample_rate=16000)
        begin = time.monotonic()
        socket.send(type="say", text="Hello. I am a portrait, and I can speak now.")
        came = socket.until_event("playback_started")
        print(f"say until playback_started: {time.monotonic() - begin:.2f} s")
        came += socket.until_event("playback_finished")
        self.assertGreater(came[-1]["position_s"], 2)
        sound = memoryview(sound_of(came)).cast("h")
        self.assertGreater(max(sound), 3000)
        socket.close()

    def test_a_voice_of_another_language_and_one_that_is_not_there(self):
        sizes = {voice: len(posted(self.server, input="Hello, good morning.", voice=voice)[2]) for voice in ("de", "en")}
        self.assertNotEqual(sizes["de"], sizes["en"])
        for voice in ("nobody", "../../etc/passwd"):
            status, _, body = posted(self.server, input="Hello.", voice=voice)
            self.assertEqual(status, 400, body)
            self.assertIn("voice", json.loads(body)["error"]["message"])
        socket = open_session(self.server)
        socket.send(type="say", text="Hello.", voice="nobody")
        error = socket.until_event("error")[-1]
        self.assertEqual(error["code"], "invalid_argument")
        self.assertTrue(error["message"].startswith('espeak-ng has no voice "nobody"'), error)
        socket.close()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
