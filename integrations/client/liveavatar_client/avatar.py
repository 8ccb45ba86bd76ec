"""A portrait that speaks what it is given, over live sockets that are opened again where they are lost."""
import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, replace

from .raw import Chunk
from .socket import LiveAvatarError, LiveOptions, LiveSocket

logger = logging.getLogger(__name__)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8
_POLL_S, _PING_S = 0.02, 20
_MOST_WAITING_S, _MOST_PAUSE_S = 4, 1


@dataclass(frozen=True)
class Frame:
    """A frame and its sound. `speech` is the number of the speech that sounds in it; None: it is a pause."""
    image: memoryview  # rgb [height, width, 3]
    sound: bytes  # s16le mono
    speech: int | None


@dataclass(frozen=True)
class SpeechStarted:
    """The next frame that has this speech has its first sample."""
    speech: int


@dataclass(frozen=True)
class SpeechFinished:
    """Once for each speech that was ended or interrupted, whatever happened to it."""
    speech: int
    position_s: float
    end: str  # "played", "interrupted", or "lost" with its connection


@dataclass
class _Speech:
    number: int
    played_s: float = 0


class LiveAvatar:
    """open(), then push() sound and iterate over what comes. Who does not read for long while it speaks is dropped.

    Speeches are numbered from 0 across connections. What the server had of a speech when a connection was lost, and the
    rest of it, is not spoken.
    """

    def __init__(self, options: LiveOptions):
        self.options = options
        self.started: dict = {}  # width, height, fps and sample_rate of the video, from open() on
        self._socket: LiveSocket | None = None
        self._tasks: list[asyncio.Task] = []
        self._closed = False
        self._error: LiveAvatarError | None = None
        self._changed = asyncio.Condition()
        self._waiting: deque = deque()  # of what is iterated
        self._hold_until = 0.0
        self._speeches: dict[int, _Speech] = {}  # that have not finished
        self._unreported: set[int] = set()
        self._sounding: list[int] = []  # that have started and not finished
        self._told = -1  # the speech of the last SpeechStarted
        self._next, self._base = 0, 0  # number of the next speech; of this connection's first one
        self._current: _Speech | None = None  # that is being pushed
        self._skipping = False  # the rest of a speech whose connection was lost
        self._heard_from = 0  # speeches before this number were interrupted
        self._interrupts = 0
        self._sent_until, self._queued_s = 0.0, 0.0

    async def open(self):
        """LiveAvatarError: the server refuses, or could not be reached for `patience_s`."""
        self._socket = await self._connect()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._ping())]

    async def push(self, pcm):
        """s16le mono, whole samples. Waits while the server has `ahead_s` of sound, or while there is no connection.
        An interrupt() or close() drops what waits."""
        interrupts, at = self._interrupts, memoryview(pcm).cast("B")
        step = self.options.sample_rate // 2 * 2  # half a second, so that an interruption finds little on its way
        while at and self._interrupts == interrupts and not self._skipping and not self._closed:
            if self._error:
                raise self._error
            if not self._has_room():
                await asyncio.sleep(_POLL_S)
                continue
            await self._push_now(at[:step])
            at = at[step:]

    def _has_room(self) -> bool:
        ahead_s = self._sent_until - time.monotonic()
        return self._socket is not None and max(ahead_s, self._queued_s / 2) < self.options.ahead_s

    async def _push_now(self, pcm):
        if self._current is None:
            self._current = _Speech(self._next)
            self._speeches[self._next] = self._current
            self._unreported.add(self._next)
            self._next += 1
        self._sent_until = max(self._sent_until, time.monotonic()) + len(pcm) / 2 / self.options.sample_rate
        await self._tell(lambda socket: socket.send_sound(pcm))

    async def end_speech(self):
        self._skipping = False
        if self._current is None:
            return
        self._current = None
        await self._tell(lambda socket: socket.send_event("end_speech"))

    async def interrupt(self):
        """What is iterated from now on has no sound of the speeches so far."""
        self._interrupts += 1
        self._heard_from = self._next
        self._skipping = False
        self._current = None
        self._sent_until = self._queued_s = 0
        await self._tell(lambda socket: socket.send_event("interrupt"))

    @property
    def unfinished(self) -> int:
        """Speeches that were not interrupted and whose SpeechFinished has not been iterated yet."""
        return sum(self.hears(speech) for speech in self._unreported)

    @property
    def has_ended(self) -> bool:
        """Whether it was closed, or has failed for good: no speech finishes any more."""
        return self._closed or self._error is not None

    @property
    def speech(self) -> int:
        """The number of the speech that was begun last; -1: none."""
        return self._next - 1

    def hears(self, speech: int | None) -> bool:
        """Whether it is a speech, and not interrupted."""
        return speech is not None and speech >= self._heard_from

    async def close(self):
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket:
            await self._socket.close()
        self._socket = None
        await self._wake()

    def __aiter__(self):
        return self

    async def __anext__(self) -> Frame | SpeechStarted | SpeechFinished:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self._closed or self._error)
                if not self._waiting:
                    if self._error and not self._closed:
                        raise self._error
                    raise StopAsyncIteration
                item = self._waiting.popleft()
                self._changed.notify_all()
            if isinstance(item, Frame):
                await asyncio.sleep(max(0.0, self._hold_until - time.monotonic()))
            elif isinstance(item, SpeechFinished):
                self._unreported.discard(item.speech)
            elif not self.hears(item.speech):  # started, and interrupted before that was iterated
                continue
            return self._as_heard(item)

    # As it is after the interruptions until now.
    def _as_heard(self, item):
        if self.hears(item.speech):
            return item
        if isinstance(item, SpeechFinished):
            return replace(item, end="interrupted")
        return Frame(item.image, bytes(len(item.sound)), None)  # pauses too: what was interrupted fades out in one

    async def _tell(self, send):
        socket = self._socket
        if socket is None:
            return
        try:
            await send(socket)
        except LiveAvatarError:
            pass  # the reader finds it too

    async def _wake(self):
        async with self._changed:
            self._changed.notify_all()

    async def _put(self, *items):
        async with self._changed:
            most = _MOST_WAITING_S * self.started["fps"]
            await self._changed.wait_for(lambda: len(self._waiting) < most or self._closed)
            self._waiting.extend(items)
            self._drop_pauses()
            self._changed.notify_all()

    # A reader that was late for long catches up.
    def _drop_pauses(self):
        too_many = len(self._waiting) - _MOST_PAUSE_S * self.started["fps"]
        if too_many <= 0:
            return
        kept = deque()
        for item in self._waiting:
            if too_many > 0 and isinstance(item, Frame) and not self.hears(item.speech):
                too_many -= 1
            else:
                kept.append(item)
        self._waiting = kept

    async def _connect(self) -> LiveSocket:
        pause_s, end = _FIRST_PAUSE_S, time.monotonic() + self.options.patience_s
        while True:
            try:
                socket = await LiveSocket.open(self.options)
                break
            except LiveAvatarError as error:
                pause_s = max(pause_s, error.retry_after_s)
                if not error.may_pass or time.monotonic() + pause_s > end:
                    raise
                logger.warning("liveavatar: %s; another try in %g s", error, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        self.started = socket.started
        self._base = self._next
        self._sent_until = self._queued_s = 0
        self._hold_until = 0
        return socket

    async def _run(self):
        try:
            while True:
                try:
                    await self._read(self._socket)
                except LiveAvatarError as error:
                    logger.warning("liveavatar: the connection is lost: %s", error)
                    await self._lose()
                    if not error.may_pass:
                        raise
                    self._socket = await self._connect()
        except LiveAvatarError as error:
            self._error = error
        except Exception as error:  # else nobody would hear of it
            logger.exception("liveavatar: the reader failed")
            self._error = LiveAvatarError("internal", str(error), 400)
        await self._wake()

    async def _read(self, socket: LiveSocket):
        while True:
            message = await socket.receive()
            if isinstance(message, Chunk):
                await self._take_chunk(message)
            elif message["type"] == "playback_started":
                await self._take_started(self._base + message["speech"])
            elif message["type"] == "playback_finished":
                await self._take_finished(self._base + message["speech"], message)
            elif message["type"] == "stats":
                self._queued_s = message["queued_s"]
            elif message["type"] == "error":
                logger.warning("liveavatar: %s (%s)", message["message"], message["code"])

    async def _take_chunk(self, chunk: Chunk):
        if not self._hold_until:
            self._hold_until = time.monotonic() + self.options.reserve_s
        speech = self._speeches.get(self._sounds())
        first = 0
        if speech and speech.played_s == 0:  # the silence before it is not of the speech
            first = next((i for i, sound in enumerate(chunk.sounds) if any(sound)), 0)
        if speech:
            speech.played_s += (len(chunk.sounds) - first) / chunk.fps
        await self._put(*(Frame(image, sound, speech.number if speech and i >= first else None)
                          for i, (image, sound) in enumerate(zip(chunk.images, chunk.sounds))))

    # Where one speech ends and the next begins within a chunk, that chunk counts for the first that is heard.
    def _sounds(self) -> int | None:
        heard = [speech for speech in self._sounding if self.hears(speech)]
        return next(iter(heard or self._sounding), None)

    async def _take_started(self, number: int):
        self._sounding.append(number)
        await self._tell_started()

    async def _take_finished(self, number: int, event: dict):
        self._speeches.pop(number, None)
        if number in self._sounding:
            self._sounding.remove(number)
        end = "interrupted" if event["interrupted"] else "played"
        await self._put(SpeechFinished(number, event["position_s"], end))
        await self._tell_started()

    async def _tell_started(self):
        number = self._sounds()
        if number is None or number <= self._told:
            return
        self._told = number
        await self._put(SpeechStarted(number))

    async def _lose(self):
        socket, self._socket = self._socket, None
        await socket.close()
        self._skipping = self._current is not None
        self._current = None
        lost = [SpeechFinished(speech.number, speech.played_s, "lost") for speech in self._speeches.values()]
        self._speeches.clear()
        self._sounding.clear()
        await self._put(*lost)

    async def _ping(self):
        while True:
            await asyncio.sleep(_PING_S)
            await self._tell(lambda socket: socket.send_event("ping"))
