#!/usr/bin/env python3
"""example.py WAV [SERVER]: the demo portrait says a sound file in a pipeline of Pipecat."""
import asyncio
import sys
import time
import wave

from pipecat.frames.frames import (BotStartedSpeakingFrame, BotStoppedSpeakingFrame, EndFrame, TTSAudioRawFrame,
                                   TTSStartedFrame, TTSStoppedFrame)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from liveavatar_client import LiveOptions
from liveavatar_pipecat import LiveAvatarVideoService


class Screen(BaseOutputTransport):
    """Plays at real time, to nobody: in its place stands a transport of yours."""

    def __init__(self, sample_rate):
        super().__init__(TransportParams(
            audio_out_enabled=True, audio_out_sample_rate=sample_rate, audio_out_end_silence_secs=0,
            video_out_enabled=True, video_out_is_live=True, video_out_framerate=25))
        self.images, self._free_at = 0, 0

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_video_frame(self, frame):
        self.images += 1
        return True

    async def write_audio_frame(self, frame):
        now = time.monotonic()
        if now - self._free_at > 0.1:  # else its buffer has some left
            self._free_at = now
        self._free_at += len(frame.audio) / 2 / frame.sample_rate
        await asyncio.sleep(max(0, self._free_at - now))
        return True


class Report(FrameProcessor):
    def __init__(self, screen):
        super().__init__()
        self._screen, self._begin = screen, time.monotonic()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)):
            print(f"{time.monotonic() - self._begin:6.2f} s  {type(frame).__name__}, {self._screen.images} images")
        await self.push_frame(frame, direction)


async def main(path, server="http://127.0.0.1:8080"):
    with wave.open(path) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        sound = file.readframes(file.getnframes())
    screen = Screen(24000)
    worker = PipelineWorker(Pipeline([LiveAvatarVideoService(options=LiveOptions(server=server)), screen,
                                      Report(screen)]), cancel_on_idle_timeout=False)
    step = rate // 10 * 2 * channels
    await worker.queue_frames([
        TTSStartedFrame(),
        *(TTSAudioRawFrame(audio=sound[at:at + step], sample_rate=rate, num_channels=channels)
          for at in range(0, len(sound), step)),
        TTSStoppedFrame(), EndFrame()])
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
