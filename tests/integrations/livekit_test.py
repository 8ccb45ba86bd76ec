#!/usr/bin/env python3
"""livekit_test.py PROGRAM: integrations/livekit with livekit-agents' own classes, without a LiveKit server."""
import asyncio
import json
import os
import sys
import unittest

from support import RATE, LiveAvatar, Server, is_said, need, no_sessions, noise, options_of, until

need("livekit.agents")
from livekit import api, rtc  # noqa: E402
from livekit.agents.voice.avatar import (AudioSegmentEnd, AvatarRunner, DataStreamAudioOutput,  # noqa: E402
                                         DataStreamAudioReceiver, QueueAudioOutput)
from livekit_room import FakeRoom  # noqa: E402
from liveavatar_livekit import LiveAvatarGenerator, avatar_options, run_avatar  # noqa: E402
from liveavatar_livekit.worker import make_token, parse_args  # noqa: E402

PROGRAM = None


class Recorded:
    """What an AvatarRunner pushes into its AVSynchronizer."""

    def __init__(self, runner):
        self.frames = []
        push = runner.av_sync.push

        async def record(frame):
            self.frames.append(frame)
            await push(frame)

        runner.av_sync.push = record

    def sound(self):
        return b"".join(bytes(frame.data) for frame in self.frames if isinstance(frame, rtc.AudioFrame))

    def seconds_heard(self):
        return sum(frame.duration for frame in self.frames if isinstance(frame, rtc.AudioFrame))


async def capture(output, sound, rate=RATE, flush=True):
    step = rate // 50 * 2
    for at in range(0, len(sound), step):
        piece = sound[at:at + step]
        await output.capture_frame(rtc.AudioFrame(piece, rate, 1, len(piece) // 2))
    if flush:
        output.flush()


class Told:
    """playback_started and playback_finished of an audio output."""

    def __init__(self, output):
        self.started, self.finished = [], []
        output.on("playback_started", self.started.append)
        output.on("playback_finished", lambda event: self.finished.append((event.playback_position,
                                                                           event.interrupted)))


class Avatar(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--max_sessions", 1, "--drain_s", 0.2)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    async def asyncSetUp(self):
        self.avatar = LiveAvatar(options_of(self.server))
        await self.avatar.open()

    async def asyncTearDown(self):
        await self.avatar.close()
        no_sessions(self.server)

    async def start(self, room, receiver):
        runner = AvatarRunner(room, audio_recv=receiver, video_gen=LiveAvatarGenerator(self.avatar),
                              options=avatar_options(self.avatar))
        recorded = Recorded(runner)
        await runner.start()
        self.addAsyncCleanup(runner.aclose)
        return recorded

    async def start_with_queue(self):
        room, _ = FakeRoom.pair("avatar", "nobody")
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        return room, output, Told(output), await self.start(room, output)

    async def test_a_segment_is_seen_and_heard_and_told_once(self):
        room, output, told, recorded = await self.start_with_queue()
        await until("the tracks are published", lambda: len(room.local_participant.published) == 2)
        self.assertEqual(room.local_participant.published,
                         [("avatar_audio", rtc.TrackSource.SOURCE_MICROPHONE),
                          ("avatar_video", rtc.TrackSource.SOURCE_CAMERA)])
        self.assertEqual((told.started, recorded.seconds_heard()), ([], 0))
        spoken = noise(1.3)
        await capture(output, spoken)
        await until("it is finished", lambda: told.finished)
        self.assertTrue(spoken in recorded.sound())
        self.assertEqual(len(told.started), 1)
        position, interrupted = told.finished[0]
        self.assertFalse(interrupted)
        self.assertTrue(1.3 <= position <= 1.3 + 4 / 25, position)
        kinds = [type(frame) is rtc.VideoFrame for frame in recorded.frames]
        self.assertEqual(kinds[:len(kinds) // 2 * 2], [True, False] * (len(kinds) // 2))
        video = next(frame for frame in recorded.frames if isinstance(frame, rtc.VideoFrame))
        self.assertEqual((video.width, video.height, len(video.data)), (64, 64, 64 * 64 * 3))

    async def test_segments_that_wait_behind_each_other_are_all_told(self):
        _, output, told, recorded = await self.start_with_queue()
        for seed in (1, 2, 3):
            await capture(output, noise(0.5, seed))
        await until("all are finished", lambda: len(told.finished) == 3)
        for seed in (1, 2, 3):
            self.assertTrue(noise(0.5, seed) in recorded.sound())
        self.assertEqual((len(told.started), [interrupted for _, interrupted in told.finished]), (3, [False] * 3))

    async def test_an_interruption_is_told_with_its_position_and_what_follows_is_whole(self):
        _, output, told, recorded = await self.start_with_queue()
        await capture(output, noise(4), flush=False)
        await until("it speaks", lambda: recorded.seconds_heard() > 0.3)
        heard = recorded.seconds_heard()
        output.clear_buffer()
        output.flush()
        await until("it is told", lambda: told.finished, 1)
        position, interrupted = told.finished[0]
        self.assertTrue(interrupted)
        self.assertTrue(abs(position - heard) < 0.2, (heard, position))
        at = len(recorded.frames)
        await capture(output, noise(0.5, seed=2))
        await until("the next is finished", lambda: len(told.finished) == 2)
        after = b"".join(bytes(frame.data) for frame in recorded.frames[at + 2:] if isinstance(frame, rtc.AudioFrame))
        self.assertTrue(is_said(after, noise(0.5, seed=2)))
        self.assertEqual((told.finished[1][1], len(told.started)), (False, 2))
        self.assertLess(told.finished[1][0], 0.5 + 4 / 25 + 0.01)

    async def test_sound_of_another_rate_is_resampled(self):
        _, output, told, recorded = await self.start_with_queue()
        await capture(output, noise(1, rate=24000), rate=24000)
        await until("it is finished", lambda: told.finished)
        self.assertAlmostEqual(told.finished[0][0], 1, delta=0.2)
        self.assertAlmostEqual(len(recorded.sound().strip(b"\0")) / 2 / RATE, 1, delta=0.02)

    async def test_the_protocol_over_byte_streams_and_rpcs(self):
        agent, room = FakeRoom.pair("agent", "avatar")
        receiver = DataStreamAudioReceiver(room)
        recorded = await self.start(room, receiver)
        output = DataStreamAudioOutput(agent, destination_identity="avatar", sample_rate=RATE, wait_playback_start=True)
        told = Told(output)
        await capture(output, noise(0.7))
        await until("it is finished", lambda: told.finished)
        self.assertTrue(noise(0.7) in recorded.sound())
        self.assertEqual(agent.local_participant.streams,
                         [("lk.audio_stream", {"sample_rate": str(RATE), "num_channels": "1"})])
        await capture(output, noise(5, seed=2))
        await until("the second is heard", lambda: len(told.started) == 2)
        output.clear_buffer()
        await until("the second is interrupted", lambda: len(told.finished) == 2, 2)
        self.assertEqual([call[0] for call in agent.local_participant.calls], ["lk.clear_buffer"])
        self.assertEqual([call[0] for call in room.local_participant.calls],
                         ["lk.playback_started", "lk.playback_finished"] * 2)
        payload = json.loads(room.local_participant.calls[-1][1])
        self.assertLessEqual({"interrupted", "playback_position"}, set(payload))
        self.assertTrue(payload["interrupted"] and payload["playback_position"] < 2, payload)
        await capture(output, noise(0.4, seed=3))
        await until("the third is finished", lambda: len(told.finished) == 3)
        self.assertTrue(noise(0.4, seed=3) in recorded.sound())

    async def test_the_worker_ends_with_its_room(self):
        room, _ = FakeRoom.pair("avatar", "nobody")
        running = asyncio.create_task(run_avatar(room, self.avatar, QueueAudioOutput(sample_rate=RATE)))
        await until("the tracks are published", lambda: len(room.local_participant.published) == 2)
        room.emit("disconnected", "gone")
        await asyncio.wait_for(running, 10)


class Failing(unittest.IsolatedAsyncioTestCase):
    async def test_a_segment_that_is_lost_with_its_server_is_told(self):
        server = Server(PROGRAM, "--drain_s", 0.2)
        avatar = LiveAvatar(options_of(server, patience_s=1))
        await avatar.open()
        room, _ = FakeRoom.pair("avatar", "nobody")
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        told = Told(output)
        running = asyncio.create_task(run_avatar(room, avatar, output))
        await capture(output, noise(5))
        await until("it speaks", lambda: told.started)
        await asyncio.to_thread(server.stop)
        await until("it is told", lambda: told.finished)
        with self.assertRaisesRegex(Exception, "no live socket at|the server ends"):
            await asyncio.wait_for(running, 20)
        await avatar.close()


    async def test_a_segment_that_waits_for_the_last_one_ends_with_the_avatar(self):
        with Server(PROGRAM) as server:
            avatar = LiveAvatar(options_of(server))
            await avatar.open()
            generator = LiveAvatarGenerator(avatar)
            frame = rtc.AudioFrame(noise(0.5), RATE, 1, RATE // 2)
            await generator.push_audio(frame)
            await generator.push_audio(AudioSegmentEnd())
            waiting = asyncio.create_task(generator.push_audio(frame))
            await asyncio.sleep(0.2)
            self.assertFalse(waiting.done())
            await avatar.close()
            await asyncio.wait_for(waiting, 5)


class Main(unittest.TestCase):
    def test_its_token_says_on_whose_behalf_it_publishes(self):
        os.environ.update(LIVEKIT_API_KEY="key", LIVEKIT_API_SECRET="secret" * 8)
        args = parse_args(["--url", "ws://x", "--room", "here", "--agent", "agent-1", "--identity", "me"])
        claims = api.TokenVerifier().verify(make_token(args))
        self.assertEqual((claims.identity, claims.kind, claims.video.room), ("me", "agent", "here"))
        self.assertEqual(claims.attributes, {"lk.publish_on_behalf": "agent-1"})


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
