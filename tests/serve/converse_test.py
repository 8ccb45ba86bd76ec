#!/usr/bin/env python3
"""converse_test.py PROGRAM: a visitor talks with the portrait of `liveavatar serve`."""
import os
import random
import struct
import sys
import threading
import time
import unittest

from client import Server, WebSocket, events_of, wait_until
from stand_ins import RATE, StandIn

PROGRAM = None
START = {"type": "start", "portrait": "demo", "size": "64*64", "sample_rate": RATE, "format": "raw", "converse": True}
PACKET_S = 0.02


def noise(seconds, level):
    values = random.Random(1)
    return b"".join(struct.pack("<h", int(values.gauss(0, level))) for _ in range(int(seconds * RATE)))


ROOM, WORDS = noise(1, 20), noise(1, 3000)


class Visitor:
    """A microphone that sends at real time until the end: silence, and words when it speaks."""

    def __init__(self, server, **fields):
        self.socket = WebSocket(server)
        assert self.socket.status == 101, (self.socket.status, self.socket.body)
        self.socket.send(**{**START, **fields})
        self.came = self.socket.until_event("started")
        self.words_left = 0
        self.lock = threading.Lock()
        self.runs = True
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def _send(self):
        size, at, next_time = int(PACKET_S * RATE) * 2, 0, time.monotonic()
        while self.runs:
            source = WORDS if self.words_left > 0 else ROOM
            self.words_left -= 1
            self._locked(lambda: self.socket.send_sound(source[at:at + size]))
            at = (at + size) % (len(ROOM) - size)
            next_time += PACKET_S
            time.sleep(max(0, next_time - time.monotonic()))

    def _locked(self, send):
        with self.lock:
            try:
                send()
            except OSError:
                self.runs = False

    def speak(self, seconds=0.8):
        self.words_left = int(seconds / PACKET_S)

    def send(self, **event):
        self._locked(lambda: self.socket.send(**event))

    def until(self, kind, **fields):
        """-> the event; what came is kept"""
        self.came += self.socket.until(lambda m: isinstance(m, dict) and m["type"] == kind and
                                       all(m[k] == v for k, v in fields.items()))
        return self.came[-1]

    def events(self, kind):
        return events_of(self.came, kind)

    def stop_microphone(self):
        self.runs = False
        self.thread.join()

    def leave(self):
        self.stop_microphone()
        self.socket.close()


class Converse(unittest.TestCase):
    def setUp(self):
        self.stand_in = StandIn().__enter__()
        self.server = Server(PROGRAM, *self.stand_in.all_flags, "--reply_timeout_s", 2, "--chat_prompt", "Be kind.")

    def tearDown(self):
        wait_until("no session is left", lambda: self.server.json("/health")["sessions"] == 0, 20)
        wait_until("nothing is asked any more", lambda: self.stand_in.open == 0, 10)
        assert self.server.stop() == 0, self.server.log[-5:]
        self.stand_in.__exit__()

    def messages(self):
        """what the chat was asked last, without the prompt"""
        last = self.stand_in.sent("/v1/chat/completions")[-1]
        self.assertEqual(last[0], {"role": "system", "content": "Be kind."})
        return [(m["role"], m["content"]) for m in last[1:]]

    def test_a_visitor_speaks_and_is_answered_twice(self):
        self.stand_in.to_hear = ["hello", "and now?"]
        visitor = Visitor(self.server)
        visitor.speak()
        visitor.until("hearing", speaks=True)
        visitor.until("hearing", speaks=False)
        ended = time.monotonic()
        self.assertEqual(visitor.until("heard"), {"type": "heard", "turn": 1, "text": "hello"})
        visitor.until("playback_started")
        print(f"end of the utterance until playback_started: {time.monotonic() - ended:.2f} s")
        answered = visitor.until("answered")
        self.assertEqual(answered, {"type": "answered", "turn": 1, "text": "You said hello. That is all.",
                                    "interrupted": False})
        self.assertEqual("".join(e["text"] for e in visitor.events("answer")).strip(), answered["text"])
        self.assertEqual([e["input"] for e in self.stand_in.sent("/v1/audio/speech")],
                         ["You said hello.", "That is all."])
        visitor.speak()
        visitor.until("answered", turn=2)
        self.assertEqual(self.messages(), [("user", "hello"), ("assistant", answered["text"]), ("user", "and now?")])
        sent = self.stand_in.sent("/v1/audio/transcriptions")[0]
        self.assertEqual((sent["file"][:4], sent["model"]), (b"RIFF", b"whisper-1"))
        rate, size = struct.unpack_from("<I", sent["file"], 24)[0], struct.unpack_from("<I", sent["file"], 40)[0]
        self.assertEqual((rate, len(sent["file"])), (16000, size + 44))
        self.assertTrue(1.2 < size / 2 / rate < 2.6, size)
        self.assertEqual([e["speech"] for e in visitor.events("playback_finished")], [0, 1])
        self.assertEqual(visitor.events("error"), [])
        visitor.leave()

    def test_speaking_over_the_portrait_stops_it_and_the_chat_knows_what_was_played(self):
        sentences = [f"This is sentence number {i} of a long answer." for i in range(10)]
        answers = [" ".join(sentences), "Fine."]
        self.stand_in.answer = lambda messages: answers.pop(0)
        self.stand_in.to_hear = ["tell me all", "stop"]
        visitor = Visitor(self.server)
        visitor.speak()
        visitor.until("playback_started")
        time.sleep(2.2)  # it plays
        visitor.speak()
        began = time.monotonic()
        visitor.until("interrupted")
        print(f"first word until interrupted: {time.monotonic() - began:.2f} s")
        answered = visitor.until("answered")
        self.assertTrue(answered["interrupted"])
        self.assertTrue(" ".join(sentences).startswith(answered["text"]), answered)
        finished = visitor.until("playback_finished")
        self.assertTrue(finished["interrupted"])
        self.assertTrue(1 < finished["position_s"] < 4.5, finished)
        spoken = finished["position_s"] / 0.03  # characters
        self.assertLess(abs(len(answered["text"]) - spoken), 14, (answered, finished))
        self.assertEqual(visitor.until("answered", turn=2)["text"], "Fine.")
        self.assertEqual(self.messages(), [("user", "tell me all"), ("assistant", answered["text"]), ("user", "stop")])
        visitor.leave()

    def test_speaking_on_before_the_answer_is_one_turn_more_and_one_answer(self):
        self.stand_in.piece_s = 0.7
        self.stand_in.to_hear = ["first", "second"]
        visitor = Visitor(self.server)
        visitor.speak()
        visitor.until("answer")  # a word of it: nothing is spoken yet
        visitor.speak()
        answered = visitor.until("answered", turn=1)
        self.assertEqual((answered["text"], answered["interrupted"]), ("", True))
        self.stand_in.piece_s = 0
        self.assertEqual(visitor.until("answered", turn=2)["text"], "You said second. That is all.")
        self.assertEqual(self.messages(), [("user", "first"), ("user", "second")])
        visitor.leave()

    def test_what_is_not_understood_is_not_answered(self):
        self.stand_in.to_hear = ["", "yes"]
        visitor = Visitor(self.server)
        visitor.speak()
        self.assertEqual(visitor.until("heard")["text"], "")
        visitor.speak()
        visitor.until("answered", turn=1)
        self.assertEqual(len(self.stand_in.sent("/v1/chat/completions")), 1)
        visitor.leave()

    def test_a_visitor_may_write_and_be_greeted(self):
        visitor = Visitor(self.server)
        visitor.send(type="say", text="Welcome.")
        visitor.until("playback_finished")
        visitor.send(type="ask", text="who are you")
        visitor.until("playback_started", speech=1)
        visitor.send(type="ask", text="...")  # nothing stops for it
        self.assertEqual(visitor.until("error")["code"], "invalid_argument")
        self.assertEqual(visitor.until("answered", turn=1)["interrupted"], False)
        visitor.send(type="ask", text="and then")
        visitor.until("playback_started", speech=2)
        visitor.send(type="ask", text="once more")
        visitor.until("answered", turn=2, interrupted=True)
        self.assertEqual(visitor.until("answered", turn=3)["text"], "You said once more. That is all.")
        visitor.leave()

    def test_a_microphone_that_ends_in_a_word_keeps_no_answer_back(self):
        self.stand_in.to_hear = ["half a"]
        visitor = Visitor(self.server)
        visitor.speak(5)
        visitor.until("hearing", speaks=True)
        time.sleep(0.3)
        visitor.stop_microphone()
        visitor.send(type="ask", text="who are you")
        visitor.until("hearing", speaks=False)
        self.assertEqual(visitor.until("heard")["text"], "half a")
        self.assertEqual(visitor.until("answered", turn=2)["text"], "You said who are you. That is all.")
        visitor.leave()

    def test_a_text_that_is_said_during_an_answer_is_no_part_of_it(self):
        self.stand_in.piece_s = 0.4
        visitor = Visitor(self.server)
        visitor.send(type="ask", text="hello")
        visitor.until("playback_started", speech=0)
        visitor.send(type="say", text="By the way.")
        self.assertEqual(visitor.until("answered")["text"], "You said hello. That is all.")
        said = [e["input"] for e in self.stand_in.sent("/v1/audio/speech")]
        self.assertEqual(sorted(said), ["By the way.", "That is all.", "You said hello."])
        visitor.leave()

    def test_each_failure_is_told_and_the_conversation_goes_on(self):
        visitor = Visitor(self.server)
        cases = [("transcription", "transcription FAIL"), ("transcription", "transcription GARBAGE"),
                 ("transcription", "transcription HUGE"), ("transcription", "transcription HANG"),
                 ("chat", "FAIL"), ("chat", "GARBAGE"), ("chat", "HUGE"), ("chat", "HANG")]
        for code, text in cases:
            if code == "transcription":
                self.stand_in.to_hear.append(text)
                visitor.speak(0.5)
            else:
                visitor.send(type="ask", text=text)
            error = visitor.until("error")
            self.assertEqual((error["code"], error["status"]), (code, 502), (text, error))
            self.assertNotIn("127.0.0.1", error["message"])
        self.stand_in.answer = lambda messages: "It FAIL here. And more."
        visitor.send(type="ask", text="speak")
        self.assertEqual(visitor.until("error")["code"], "speech")
        visitor.until("answered", text="")
        self.stand_in.answer = lambda messages: "Well."
        visitor.send(type="ask", text="again")
        visitor.until("answered", text="Well.")
        visitor.leave()

    def test_an_answer_without_an_end_is_cut(self):
        self.stand_in.answer = lambda messages: "word " * 9000
        visitor = Visitor(self.server)
        visitor.send(type="ask", text="talk")
        visitor.until("playback_started")
        wait_until("the chat has ended", lambda: self.stand_in.open <= 1)
        visitor.send(type="interrupt")
        self.assertTrue(visitor.until("answered")["interrupted"])
        self.assertLessEqual(sum(len(e["text"]) for e in visitor.events("answer")), 8 << 10)
        visitor.leave()

    def test_a_visitor_who_vanishes_leaves_nothing_behind(self):
        Visitor(self.server).leave()  # the engine's own thread begins with the first session
        wait_until("no session is left", lambda: self.server.json("/health")["sessions"] == 0, 10)
        threads = self.server.metric("process_threads")
        for text in ("HANG", "hello"):
            visitor = Visitor(self.server)
            visitor.send(type="ask", text=text)
            time.sleep(0.5)
            visitor.runs = False
            begin = time.monotonic()
            visitor.socket.reset()
            wait_until("no session is left", lambda: self.server.json("/health")["sessions"] == 0, 10)
            self.assertLess(time.monotonic() - begin, 1.9)
        wait_until("no thread is left", lambda: self.server.metric("process_threads") <= threads)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
