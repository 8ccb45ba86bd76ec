"""One live socket, from `start` to its end."""
import asyncio
import base64
import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from .raw import Chunk, parse_chunk


class LiveAvatarError(Exception):
    """What the server or the network said. `status` is HTTP's, 0 where nobody answered."""

    def __init__(self, code: str, message: str, status: int = 0, retry_after_s: float = 0):
        super().__init__(f"{message} ({code})")
        self.code, self.status, self.retry_after_s = code, status, retry_after_s

    @property
    def may_pass(self) -> bool:
        """Whether another try may succeed."""
        return self.status == 0 or self.status in (408, 429) or self.status >= 500


@dataclass(frozen=True)
class LiveOptions:
    server: str = "http://127.0.0.1:8080"
    portrait: str | bytes = "demo"  # the name of a kept one, or an image's bytes
    prompt: str = ""
    size: str = ""  # an area, as "704*384"; empty: the model's own
    sample_rate: int = 24000  # of the sound in both directions: a multiple of 25 from 8000 to 48000
    key: str = field(default="", repr=False)
    more: dict = field(default_factory=dict)  # other fields of `start`: seed, fit, sample_steps, ...
    ahead_s: float = 5  # sound is sent so far ahead of real time at most
    reserve_s: float = 0.12  # how long the first frame is held, so that a late block leaves no gap
    open_s: float = 60  # how long `started` may take
    stall_s: float = 20  # a socket that is silent for so long is lost
    patience_s: float = 60  # how long another socket is tried for

    @property
    def url(self) -> str:
        parts = urlsplit(self.server)
        schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
        if parts.scheme not in schemes or not parts.netloc:
            raise LiveAvatarError("server", f"{self.server!r} is no address; give http://HOST:PORT", 400)
        return f"{schemes[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}/v1/live"

    @property
    def start(self) -> str:
        portrait = self.portrait
        if isinstance(portrait, bytes):
            portrait = base64.b64encode(portrait).decode()
        event = {"type": "start", "portrait": portrait, "prompt": self.prompt, "sample_rate": self.sample_rate,
                 "format": "raw", **self.more}
        if self.size:
            event["size"] = self.size
        return json.dumps(event)


def _refusal(error: InvalidStatus) -> LiveAvatarError:
    response = error.response
    try:
        body = json.loads(response.body)["error"]
        code, message = body["code"], body["message"]
    except (ValueError, KeyError, TypeError):
        code, message = "http", f"the server answered {response.status_code}; is this the address of liveavatar serve?"
    retry = response.headers.get("Retry-After", "0")
    return LiveAvatarError(code, message, response.status_code, float(retry) if retry.isdecimal() else 0)


class LiveSocket:
    """Opened by open(). Its methods raise LiveAvatarError where the session has ended."""

    def __init__(self, options: LiveOptions, connection):
        self._options, self._connection = options, connection
        self.started: dict = {}  # the event: width, height, fps, sample_rate
        self._last_error: dict = {}  # the event

    @classmethod
    async def open(cls, options: LiveOptions) -> "LiveSocket":
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        try:
            connection = await connect(options.url, additional_headers=headers, compression=None, max_size=None,
                                       max_queue=4, open_timeout=options.open_s, close_timeout=2, proxy=None)
        except InvalidStatus as error:
            raise _refusal(error) from error
        except (InvalidURI, InvalidHandshake, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise LiveAvatarError("unreachable", f"no live socket at {options.server}: {reason}") from error
        socket = cls(options, connection)
        try:
            await socket._begin()
        except BaseException:
            await connection.close()
            raise
        return socket

    async def _begin(self):
        await self._send(self._options.start)
        while not self.started:
            message = await self.receive(self._options.open_s)
            if isinstance(message, dict) and message["type"] == "started":
                self.started = message

    async def _send(self, message):
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise self._ended(error) from error

    # The server says the code of the error that ended the session, whose event came before.
    def _ended(self, error: ConnectionClosed) -> LiveAvatarError:
        reason = error.rcvd.reason if error.rcvd else ""
        event = self._last_error
        if reason and event.get("code") == reason:
            return LiveAvatarError(reason, event["message"], event["status"])
        return LiveAvatarError("closed", f"the live socket was closed: {reason or 'the connection was lost'}")

    async def send_sound(self, pcm):
        await self._send(pcm)

    async def send_event(self, kind: str, **fields):
        await self._send(json.dumps({"type": kind, **fields}))

    async def receive(self, patience_s: float | None = None) -> Chunk | dict:
        """A chunk, or an event. An `error` is an event too: the session has ended when the socket is closed."""
        patience_s = self._options.stall_s if patience_s is None else patience_s
        try:
            async with asyncio.timeout(patience_s):  # wait_for() of Python 3.11 may swallow a cancellation
                message = await self._connection.recv()
        except ConnectionClosed as error:
            raise self._ended(error) from error
        except TimeoutError:
            raise LiveAvatarError("stalled", f"nothing came from the server for {patience_s:g} s") from None
        if isinstance(message, bytes):
            try:
                return parse_chunk(message)
            except ValueError as error:
                raise LiveAvatarError("protocol", str(error), 400) from error
        event = json.loads(message)
        if event["type"] == "error":
            self._last_error = event
        return event

    async def close(self):
        """Says `stop` where somebody hears it."""
        try:
            await self.send_event("stop")
        except LiveAvatarError:
            pass
        await self._connection.close()
