#!/usr/bin/env python3
"""client_test.py PROGRAM: integrations/client against `liveavatar serve`."""
import asyncio
import os
import sys
import unittest
from pathlib import Path

from support import RATE, LiveAvatar, Server, no_sessions, noise, options_of, until

from liveavatar_client import Frame, LiveAvatarError, LiveOptions, SpeechFinished, SpeechStarted
from liveavatar_client.raw import parse_chunk

PROGRAM = None


class Listener:
    """Iterates over an avatar."""

    def __init__(self, avatar):
        self.items = []
        self.error = None
        self.task = asyncio.create_task(self.run(avatar))

    async def run(self, avatar):
        try:
            async for item in avatar:
                self.items.append(item)
        except LiveAvatarError as error:
            self.error = error

    def finished(self):
        return [item for item in self.items if isinstance(item, SpeechFinished)]

    def frames(self, speech):
        return [item for item in self.items if isinstance(item, Frame) and item.speech == speech]

    def sound(self):
        return b"".join(item.sound for item in self.items if isinstance(item, Frame))


async def open_avatar(server, **more):
    avatar = LiveAvatar(options_of(server, **more))
    await avatar.open()
    return avatar, Listener(avatar)


class Client(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--max_sessions", 2, "--queue_seconds", 10)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def tearDown(self):
        no_sessions(self.server)

    async def test_the_example_runs_as_it_stands(self):
        source = Path(__file__).resolve().parents[2]
        example = (source / "integrations/README.md").read_text().split("```python\n")[1].split("```")[0]
        example = example.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{self.server.port}")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", example, cwd=source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(source / "integrations/client")})
        out = (await process.communicate())[0].decode()
        self.assertEqual(process.returncode, 0, out)
        self.assertIn("speech 0 played after ", out)
        self.assertIn("12288 bytes of rgb", out)

    async def test_a_speech_comes_back_to_the_sample_with_its_frames(self):
        avatar, listener = await open_avatar(self.server)
        self.assertEqual((avatar.started["width"], avatar.started["fps"]), (64, 25))
        await avatar.push(noise(1.3))
        await avatar.end_speech()
        self.assertEqual(avatar.unfinished, 1)
        await until("it is finished", listener.finished)
        await avatar.close()
        self.assertEqual(listener.finished(), [SpeechFinished(0, 1.3, "played")])
        self.assertTrue(noise(1.3) in b"".join(frame.sound for frame in listener.frames(0)))
        started = listener.items.index(SpeechStarted(0))
        self.assertLess(started, listener.items.index(listener.frames(0)[0]))
        self.assertLessEqual(len(listener.frames(0)), 33 + 4)
        self.assertEqual({len(frame.image) for frame in listener.frames(0)}, {64 * 64 * 3})
        self.assertEqual(avatar.unfinished, 0)

    async def test_a_speech_longer_than_the_servers_queue_is_paced_and_complete(self):
        avatar, listener = await open_avatar(self.server, ahead_s=1)
        spoken = noise(12)
        await avatar.push(spoken)
        await avatar.end_speech()
        await until("it is finished", listener.finished)
        await avatar.close()
        self.assertEqual(listener.finished()[0].position_s, 12)
        self.assertTrue(spoken in listener.sound())

    async def test_an_interruption_is_heard_at_once_and_the_next_speech_is_whole(self):
        avatar, listener = await open_avatar(self.server)
        pushing = asyncio.create_task(avatar.push(noise(30)))
        await until("it speaks", lambda: len(listener.frames(0)) > 5)
        await avatar.interrupt()
        await asyncio.wait_for(pushing, 5)  # what waited is dropped
        heard = len(listener.frames(0))
        self.assertEqual(avatar.unfinished, 0)
        await avatar.push(noise(0.5, seed=2))
        await avatar.end_speech()
        await until("the second is finished", lambda: len(listener.finished()) == 2)
        await avatar.close()
        self.assertEqual(len(listener.frames(0)), heard)
        self.assertEqual([(item.speech, item.end) for item in listener.finished()], [(0, "interrupted"), (1, "played")])
        self.assertLess(listener.finished()[0].position_s, 5)
        self.assertTrue(noise(0.5, seed=2) in listener.sound())

    async def test_what_is_pushed_ends_with_the_avatar(self):
        avatar, listener = await open_avatar(self.server)
        pushing = asyncio.create_task(avatar.push(noise(30)))
        await until("it speaks", lambda: len(listener.frames(0)) > 5)
        self.assertFalse(avatar.has_ended)
        await avatar.close()
        await asyncio.wait_for(pushing, 5)
        await asyncio.wait_for(avatar.push(noise(30)), 5)
        self.assertTrue(avatar.has_ended)

    async def test_an_error_that_leaves_the_session_is_survived(self):
        avatar, listener = await open_avatar(self.server, more={"allow_changes": True})
        await avatar.push(noise(1.3))
        with self.assertLogs("liveavatar_client", "WARNING") as logs:
            for event in ({"kind": "nothing"}, {"kind": "set_portrait", "portrait": "nobody"}):
                await avatar._tell(lambda socket, event=event: socket.send_event(**event))
            await until("the errors are told", lambda: len(logs.output) >= 2)
        self.assertEqual([line.rpartition("(")[2] for line in logs.output], ["invalid_argument)", "not_found)"])
        await avatar.end_speech()
        await until("it is finished", listener.finished)
        await avatar.close()
        self.assertEqual(listener.finished(), [SpeechFinished(0, 1.3, "played")])

    async def test_a_reader_that_comes_late_has_missed_pauses_and_no_speech(self):
        avatar = LiveAvatar(options_of(self.server))
        await avatar.open()
        await asyncio.sleep(3)
        await avatar.push(noise(1))
        await avatar.end_speech()
        await asyncio.sleep(2)
        listener = Listener(avatar)
        await until("it is finished", listener.finished)
        pauses = listener.items.index(SpeechStarted(0))
        await avatar.close()
        self.assertLess(pauses, 25)
        self.assertTrue(noise(1) in listener.sound())

    async def test_refusals_say_what_the_server_says(self):
        cases = [({"portrait": "nobody"}, 404, "portrait"), ({"portrait": b"no image" * 9}, 400, "image"),
                 ({"more": {"sample_steps": 0}}, 400, "sample_steps")]
        for fields, status, word in cases:
            with self.assertRaises(LiveAvatarError) as caught:
                await open_avatar(self.server, **fields)
            self.assertEqual(caught.exception.status, status)
            self.assertIn(word, str(caught.exception))
        for address in ("http://127.0.0.1:9", "127.0.0.1:8080", "ftp://x"):
            with self.assertRaises(LiveAvatarError) as caught:
                await LiveAvatar(LiveOptions(server=address, patience_s=0)).open()
            self.assertIn(address, str(caught.exception))

    async def test_a_full_server_is_asked_again(self):
        first, _ = await open_avatar(self.server)
        second, _ = await open_avatar(self.server)
        with self.assertRaises(LiveAvatarError) as caught:
            await open_avatar(self.server, patience_s=1)
        self.assertEqual((caught.exception.status, caught.exception.code), (503, "sessions"))
        self.assertGreater(caught.exception.retry_after_s, 0)
        await first.close()
        await second.close()


class Reconnecting(unittest.IsolatedAsyncioTestCase):
    async def test_a_lost_speech_is_told_and_the_next_is_spoken_by_the_next_server(self):
        server = Server(PROGRAM, "--drain_s", 0.2)
        avatar, listener = await open_avatar(server)
        await avatar.push(noise(3))
        await until("it speaks", lambda: len(listener.frames(0)) > 5)
        await asyncio.to_thread(server.stop)
        await until("it is lost", listener.finished)
        self.assertEqual(listener.finished()[0].end, "lost")
        self.assertLess(listener.finished()[0].position_s, 3)
        await avatar.push(noise(1, seed=3))  # the rest of the lost speech
        await avatar.end_speech()
        later = asyncio.create_task(avatar.push(noise(0.5, seed=2)))
        with Server(PROGRAM, port=server.port) as again:
            await asyncio.wait_for(later, 60)
            await avatar.end_speech()
            await until("the next is finished", lambda: len(listener.finished()) == 2)
            self.assertEqual(listener.finished()[1], SpeechFinished(1, 0.5, "played"))
            self.assertTrue(noise(0.5, seed=2) in listener.sound())
            self.assertFalse(noise(1, seed=3)[:64] in listener.sound())
            await avatar.close()
            no_sessions(again)

    async def test_a_server_that_stays_away_is_an_error_of_all_that_wait(self):
        server = Server(PROGRAM, "--drain_s", 0.2)
        avatar, listener = await open_avatar(server, patience_s=1)
        await asyncio.to_thread(server.stop)
        await until("it gives up", lambda: listener.error)
        self.assertIn(listener.error.code, ("unreachable", "draining"))
        with self.assertRaises(LiveAvatarError):
            await avatar.push(noise(1))
        await avatar.close()


class Options(unittest.TestCase):
    def test_the_key_is_not_shown(self):
        self.assertNotIn("secret", repr(LiveOptions(key="secret")))


class Raw(unittest.TestCase):
    def test_what_is_no_raw_message_is_refused(self):
        for message in (b"", b"LARW", b"x" * 40, b"LARW\2\0" + bytes(34), b"LARW\1\0\x28\0" + bytes(32)):
            with self.assertRaises(ValueError):
                parse_chunk(message)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
