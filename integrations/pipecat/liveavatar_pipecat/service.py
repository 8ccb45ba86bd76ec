"""A video service of Pipecat over our live socket: TTS sound in, images and their sound out."""
import asyncio
import math
from collections import deque
from dataclasses import dataclass

from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (CancelFrame, EndFrame, Frame as PipecatFrame, InterruptionFrame,
                                   OutputAudioRawFrame, OutputImageRawFrame, OutputTransportReadyFrame, StartFrame,
                                   SystemFrame, TTSAudioRawFrame, TTSStartedFrame, TTSStoppedFrame)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from liveavatar_client import Frame, LiveAvatar, LiveAvatarError, LiveOptions, SpeechFinished, SpeechStarted

_POLL_S, _DRAIN_S = 0.02, 10


@dataclass
class _Held:
    """Leaves when so much of the speech has left."""
    speech: int
    position_s: float
    frame: PipecatFrame


def _mono(sound: bytes, channels: int) -> bytes:
    if channels == 1:
        return sound
    samples = memoryview(sound).cast("h")
    mixed = memoryview(bytearray(len(sound) // channels)).cast("h")
    for i, group in enumerate(zip(*(samples[channel::channels] for channel in range(channels)))):
        mixed[i] = sum(group) // channels
    return mixed.tobytes()


class LiveAvatarVideoService(AIService):
    """Place it between the TTS service and the transport's output. Frames leave in the order in which they came: what
    follows sound (TTSStoppedFrame, words) leaves when that sound has. If the server fails for good, an error is pushed
    and TTS sound passes as it came."""

    def __init__(self, *, options: LiveOptions | None = None, sync_with_audio: bool = False, **kwargs):
        """sync_with_audio: as OutputImageRawFrame has it, for transports without video_out_is_live."""
        super().__init__(settings=ServiceSettings(model=None), **kwargs)
        self._options = options or LiveOptions()
        self._sync_with_audio = sync_with_audio
        self._avatar: LiveAvatar | None = None
        self._output: asyncio.Task | None = None
        self._resampler, self._input_rate = create_stream_resampler(), 0
        self._held: deque[_Held] = deque()
        self._order = asyncio.Lock()
        self._is_ready = False  # somebody takes images
        self._sent_of, self._sent_s = -1, math.inf  # how much of the last speech was sent; inf: all
        self._played_of, self._played_s = -1, 0.0
        self._contexts: dict[int, str | None] = {}  # of speeches

    def can_generate_metrics(self) -> bool:
        return True

    async def start(self, frame: StartFrame):
        await super().start(frame)
        avatar = LiveAvatar(self._options)
        try:
            await avatar.open()
        except LiveAvatarError as error:
            await self.push_error(f"the avatar cannot be opened: {error}", error, force_treat_as_permanent=True)
            return
        self._avatar = avatar
        self._output = self.create_task(self._push_output(avatar))

    async def stop(self, frame: EndFrame):
        await super().stop(frame)
        await self._end_speech()
        await self._drain()
        await self._close()

    async def cancel(self, frame: CancelFrame):
        await super().cancel(frame)
        await self._close()

    async def cleanup(self):
        await super().cleanup()
        await self._close()

    # What was said before the end is heard.
    async def _drain(self):
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.ahead_s + _DRAIN_S
        while self._avatar and (self._avatar.unfinished or self._held) and loop.time() < end:
            await asyncio.sleep(_POLL_S)

    async def _close(self):
        avatar, self._avatar = self._avatar, None
        output, self._output = self._output, None
        if output:
            await self.cancel_task(output)
        if avatar:
            await avatar.close()
        await self._release(lambda held: True)

    async def process_frame(self, frame: PipecatFrame, direction: FrameDirection):
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputTransportReadyFrame):
            self._is_ready = True
        if isinstance(frame, InterruptionFrame):
            await self._interrupt()
        if direction == FrameDirection.UPSTREAM or isinstance(frame, SystemFrame) or self._avatar is None:
            await self.push_frame(frame, direction)
            return
        if isinstance(frame, TTSAudioRawFrame):
            await self._speak(frame)
            return
        if isinstance(frame, TTSStartedFrame):
            await self.start_ttfb_metrics()
        if isinstance(frame, TTSStoppedFrame):
            await self._end_speech()
        await self._push_in_order(frame)

    async def _speak(self, frame: TTSAudioRawFrame):
        avatar = self._avatar
        self._is_ready = True
        if frame.sample_rate != self._input_rate:  # a resampler has one
            self._resampler, self._input_rate = create_stream_resampler(), frame.sample_rate
        sound = await self._resampler.resample(_mono(frame.audio, frame.num_channels), frame.sample_rate,
                                               self._options.sample_rate)
        try:
            await avatar.push(sound)
        except LiveAvatarError:  # the output task tells of it
            await self.push_frame(frame)
            return
        if avatar.speech != self._sent_of or self._sent_s == math.inf:
            self._sent_of, self._sent_s = avatar.speech, 0.0
            self._contexts[avatar.speech] = frame.context_id
        self._sent_s += len(sound) / 2 / self._options.sample_rate

    async def _end_speech(self):
        avatar = self._avatar
        if avatar is None or self._sent_s == math.inf:
            return
        tail = await self._resampler.flush()
        self._sent_s = math.inf
        try:
            await avatar.push(tail)
        except LiveAvatarError:
            return  # the output task tells of it
        await avatar.end_speech()

    async def _interrupt(self):
        await self._resampler.reset()
        self._sent_s = math.inf
        async with self._order:
            self._held = deque(held for held in self._held if not held.frame.interruptible)
        if self._avatar:
            await self._avatar.interrupt()

    async def _push_in_order(self, frame: PipecatFrame):
        async with self._order:
            if self._held or (self._avatar and self._avatar.unfinished):
                self._held.append(_Held(self._sent_of, self._sent_s, frame))
            else:
                await self.push_frame(frame)

    async def _release(self, is_due):
        async with self._order:
            while self._held and is_due(self._held[0]):
                await self.push_frame(self._held.popleft().frame)

    async def _push_output(self, avatar: LiveAvatar):
        try:
            async for item in avatar:
                if isinstance(item, Frame):
                    await self._push_media(avatar, item)
                elif isinstance(item, SpeechStarted):
                    await self.stop_ttfb_metrics()
                else:
                    await self._finish(item)
        except LiveAvatarError as error:
            self._avatar = None
            await self.push_error(f"the avatar is gone: {error}", error, force_treat_as_permanent=True)
            await self._release(lambda held: True)
            await avatar.close()

    async def _finish(self, finished: SpeechFinished):
        self._contexts.pop(finished.speech, None)
        await self._release(lambda held: held.speech <= finished.speech)

    async def _push_media(self, avatar: LiveAvatar, item: Frame):
        if not self._is_ready:
            return
        image = OutputImageRawFrame(image=bytes(item.image), size=(avatar.started["width"], avatar.started["height"]),
                                    format="RGB")
        image.sync_with_audio = self._sync_with_audio
        rate = avatar.started["sample_rate"]
        if item.speech is None:
            sound = OutputAudioRawFrame(audio=item.sound, sample_rate=rate, num_channels=1)
        else:
            sound = TTSAudioRawFrame(audio=item.sound, sample_rate=rate, num_channels=1,
                                     context_id=self._contexts.get(item.speech))
        await self.push_frame(image)
        await self.push_frame(sound)
        if item.speech is not None:
            await self._count_played(item.speech, 1 / avatar.started["fps"])

    async def _count_played(self, speech: int, seconds: float):
        if speech != self._played_of:
            self._played_of, self._played_s = speech, 0.0
        self._played_s += seconds
        await self._release(lambda held: held.speech < speech or
                            (held.speech == speech and held.position_s <= self._played_s))
