"""A VideoGenerator of livekit-agents over our live socket."""
import asyncio
from collections.abc import AsyncIterator

from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, VideoGenerator

from liveavatar_client import Frame, LiveAvatar, SpeechFinished

_POLL_S = 0.02


class _Sound(rtc.AudioFrame):
    """AvatarRunner adds durations up to the playback position: silence between speeches, and what was interrupted
    before it went out, have none. They go out all the same, so that sound and video wait in queues of equal length."""

    def __init__(self, frame: Frame, sample_rate: int, is_heard):
        super().__init__(frame.sound, sample_rate, 1, len(frame.sound) // 2)
        self._is_heard = is_heard

    @property
    def duration(self) -> float:
        return super().duration if self._is_heard() else 0.0


class _Mono:
    """Frames of any rate and number of channels as mono of one rate."""

    def __init__(self, sample_rate: int):
        self._sample_rate = sample_rate
        self._resampler: rtc.AudioResampler | None = None
        self._input_rate = 0

    def push(self, frame: rtc.AudioFrame) -> list[bytes]:
        if frame.num_channels > 1:
            frame = _mixed(frame)
        if self._resampler is not None and self._input_rate != frame.sample_rate:
            self._resampler = None  # what it holds is a few samples of another voice
        if frame.sample_rate == self._sample_rate:
            return [bytes(frame.data)]
        if self._resampler is None:
            self._resampler = rtc.AudioResampler(frame.sample_rate, self._sample_rate)
            self._input_rate = frame.sample_rate
        return [bytes(out.data) for out in self._resampler.push(frame)]

    def flush(self) -> list[bytes]:
        tail = [bytes(out.data) for out in self._resampler.flush()] if self._resampler else []
        self.clear()
        return tail

    def clear(self):
        self._resampler = None


def _mixed(frame: rtc.AudioFrame) -> rtc.AudioFrame:
    channels = [frame.data[i::frame.num_channels] for i in range(frame.num_channels)]
    mixed = memoryview(bytearray(2 * frame.samples_per_channel)).cast("h")
    for i, samples in enumerate(zip(*channels)):
        mixed[i] = sum(samples) // frame.num_channels
    return rtc.AudioFrame(mixed.tobytes(), frame.sample_rate, 1, frame.samples_per_channel)


class LiveAvatarGenerator(VideoGenerator):
    """Of an avatar that is open. Segments are speeches."""

    def __init__(self, avatar: LiveAvatar):
        self._avatar = avatar
        self._mono = _Mono(avatar.options.sample_rate)
        self._clears = 0
        self._is_within = False  # a segment

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        clears = self._clears
        if isinstance(frame, AudioSegmentEnd):
            self._is_within = False
            for sound in self._mono.flush():
                await self._avatar.push(sound)
            if self._clears == clears:
                await self._avatar.end_speech()
            return
        # AvatarRunner knows one segment at a time: it forgets the end of one that is read before the last has ended.
        while not self._is_within and self._avatar.unfinished and self._clears == clears and not self._avatar.has_ended:
            await asyncio.sleep(_POLL_S)
        if self._clears != clears:
            return
        self._is_within = True
        for sound in self._mono.push(frame):
            await self._avatar.push(sound)

    async def clear_buffer(self) -> None:
        self._clears += 1
        self._is_within = False
        self._mono.clear()
        await self._avatar.interrupt()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._generate()

    async def _generate(self):
        rate = self._avatar.options.sample_rate
        async for item in self._avatar:
            if isinstance(item, Frame):
                width, height = self._avatar.started["width"], self._avatar.started["height"]
                yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, item.image)
                yield _Sound(item, rate, lambda speech=item.speech: self._avatar.hears(speech))
            elif isinstance(item, SpeechFinished) and item.end != "interrupted":
                yield AudioSegmentEnd()
