#!/usr/bin/env python3
"""pipecat_test.py PROGRAM: integrations/pipecat in pipelines of Pipecat, against `liveavatar serve`."""
import asyncio
import os
import sys
import time
import unittest

from support import RATE, Server, is_said, need, no_sessions, noise, options_of

need("pipecat")
from loguru import logger  # noqa: E402
from pipecat.frames.frames import (BotStartedSpeakingFrame, BotStoppedSpeakingFrame, ErrorFrame,  # noqa: E402
                                   InterruptionFrame, OutputAudioRawFrame, OutputImageRawFrame, TTSAudioRawFrame,
                                   TTSStartedFrame, TTSStoppedFrame, TTSTextFrame)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.tests.utils import SleepFrame, run_test  # noqa: E402
from pipecat.transports.base_output import BaseOutputTransport  # noqa: E402
from pipecat.transports.base_transport import TransportParams  # noqa: E402
from liveavatar_pipecat import LiveAvatarVideoService  # noqa: E402

PROGRAM = None


def tts(sound, rate=RATE, channels=1, piece_s=0.1):
    """As a TTS service sends it, in pieces"""
    step = int(piece_s * rate) * 2 * channels
    return [TTSStartedFrame(context_id="c"),
            *(TTSAudioRawFrame(audio=sound[at:at + step], sample_rate=rate, num_channels=channels, context_id="c")
              for at in range(0, len(sound), step)),
            TTSStoppedFrame(context_id="c")]


def of_type(frames, kind):
    return [frame for frame in frames if type(frame) is kind]


def sound_of(frames):
    return b"".join(frame.audio for frame in frames if isinstance(frame, OutputAudioRawFrame))


class Screen(BaseOutputTransport):
    """An output transport that plays at real time and remembers when what was shown and heard."""

    def __init__(self, is_live=True):
        super().__init__(TransportParams(
            audio_out_enabled=True, audio_out_sample_rate=RATE, audio_out_end_silence_secs=0, video_out_enabled=True,
            video_out_is_live=is_live, video_out_width=64, video_out_height=64, video_out_framerate=25))
        self.images, self.sounds, self.free_at = [], [], 0
        self.order = {}  # of images as they came
        self.behind = []  # how many sounds have begun that came with later images, for each image that is shown

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def process_frame(self, frame, direction):
        if isinstance(frame, OutputImageRawFrame):
            self.order[frame.id] = len(self.order)
        await super().process_frame(frame, direction)

    async def write_video_frame(self, frame):
        self.images.append((time.monotonic(), frame))
        self.behind.append(len(self.sounds) - self.order[frame.id])
        return True

    async def write_audio_frame(self, frame):
        now = time.monotonic()
        self.sounds.append((now, frame))
        if now - self.free_at > 0.1:  # else its buffer has some left
            self.free_at = now
        self.free_at += len(frame.audio) / 2 / RATE
        await asyncio.sleep(max(0, self.free_at - now))
        return True


class Service(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        logger.remove()
        cls.server = Server(PROGRAM, "--max_sessions", 1)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def tearDown(self):
        no_sessions(self.server)

    async def run_service(self, frames, processor=None, **more):
        service = processor or LiveAvatarVideoService(options=options_of(self.server))
        return await run_test(service, frames_to_send=frames, start_timeout=60, **more)

    async def test_speech_comes_out_with_its_images_and_its_end_behind_it(self):
        spoken = noise(1.3)
        down, _ = await self.run_service(tts(spoken))
        self.assertTrue(spoken in sound_of(down))
        images = of_type(down, OutputImageRawFrame)
        self.assertEqual({(image.size, image.format, len(image.image)) for image in images},
                         {((64, 64), "RGB", 64 * 64 * 3)})
        self.assertEqual(len(images), len([frame for frame in down if isinstance(frame, OutputAudioRawFrame)]))
        speech = of_type(down, TTSAudioRawFrame)
        self.assertTrue(33 <= len(speech) <= 37, len(speech))
        self.assertEqual({(frame.sample_rate, frame.context_id) for frame in speech}, {(RATE, "c")})
        self.assertGreater(down.index(of_type(down, TTSStoppedFrame)[0]), down.index(speech[-1]))
        self.assertLess(down.index(of_type(down, TTSStartedFrame)[0]), down.index(speech[0]))

    async def test_words_leave_when_their_sound_has(self):
        frames = tts(noise(2))
        word = TTSTextFrame(text="now", text_type="word")
        frames.insert(11, word)  # behind 1 s
        down, _ = await self.run_service(frames)
        before = of_type(down[:down.index(word)], TTSAudioRawFrame)
        self.assertTrue(24 <= len(before) <= 29, len(before))

    async def test_an_interruption_silences_what_was_said_and_the_next_speech_is_whole(self):
        frames = [*tts(noise(5))[:-1], SleepFrame(1.5), InterruptionFrame(), *tts(noise(0.5, seed=2))]
        down, _ = await self.run_service(frames)
        at = down.index(of_type(down, InterruptionFrame)[0])
        self.assertGreater(len(sound_of(down[:at]).strip(b"\0")), RATE)
        self.assertTrue(is_said(sound_of(down[at:]), noise(0.5, seed=2)))

    async def test_sound_of_another_rate_and_two_channels_is_taken(self):
        mono = noise(1, rate=24000)
        stereo = b"".join(mono[at:at + 2] * 2 for at in range(0, len(mono), 2))
        down, _ = await self.run_service(tts(stereo, rate=24000, channels=2))
        self.assertAlmostEqual(len(sound_of(down).strip(b"\0")) / 2 / RATE, 1, delta=0.02)

    async def test_a_transport_shows_and_plays_it_in_step_and_the_bot_starts_and_stops_speaking(self):
        screen = Screen()
        pipeline = Pipeline([LiveAvatarVideoService(options=options_of(self.server)), screen])
        spoken = noise(1.6)
        down, _ = await self.run_service(tts(spoken) + [SleepFrame(4)], pipeline)
        self.assertTrue(spoken in b"".join(frame.audio for _, frame in screen.sounds))
        kinds = [type(frame) for frame in down if type(frame) in (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)]
        self.assertEqual(kinds, [BotStartedSpeakingFrame, BotStoppedSpeakingFrame])
        # The image and the sound of each frame, when both queues have begun. A loaded machine starves them for a while.
        shown, heard = [[at for at, _ in times] for times in (screen.images, screen.sounds)]
        apart = sorted(image - sound for image, sound in list(zip(shown, heard))[25:])
        self.assertLess(abs(apart[len(apart) // 2]), 0.4, apart)

    async def test_images_that_wait_for_their_sound_are_never_ahead_of_it(self):
        screen = Screen(is_live=False)
        service = LiveAvatarVideoService(options=options_of(self.server), sync_with_audio=True)
        await self.run_service(tts(noise(1.6)) + [SleepFrame(4)], Pipeline([service, screen]))
        self.assertGreater(len(screen.behind), 50)
        self.assertGreaterEqual(min(screen.behind), 0)
        self.assertLessEqual(sorted(screen.behind)[len(screen.behind) // 2], 3)

    async def test_without_a_server_an_error_is_told_and_the_voice_is_heard(self):
        service = LiveAvatarVideoService(options=options_of(self.server, portrait="nobody"))
        down, up = await self.run_service(tts(noise(0.5)), service)
        self.assertIn("portrait", of_type(up, ErrorFrame)[0].error)
        self.assertEqual(sound_of(down), noise(0.5))


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
