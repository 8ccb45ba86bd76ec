"""Two participants of a LiveKit room without its server: byte streams, RPCs and tracks as livekit-agents uses them."""
import asyncio
from types import SimpleNamespace

from livekit import rtc


class _Reader:
    def __init__(self, attributes):
        self.info = SimpleNamespace(attributes=attributes, stream_id="1")
        self.chunks = asyncio.Queue()

    async def __anext__(self):
        chunk = await self.chunks.get()
        if chunk is None:
            raise StopAsyncIteration
        return chunk


class _Writer:
    def __init__(self, reader):
        self._reader = reader

    async def write(self, data):
        await self._reader.chunks.put(bytes(data))

    async def aclose(self):
        await self._reader.chunks.put(None)


class _Publication:
    def __init__(self, track):
        self.track, self.kind = track, track.kind

    async def wait_for_subscription(self):
        pass


class _LocalParticipant:
    def __init__(self, room, identity):
        self._room, self.identity = room, identity
        self._rpc_handlers = {}
        self.published, self.calls, self.streams = [], [], []

    async def publish_track(self, track, options):
        self.published.append((track.name, options.source))
        return _Publication(track)

    def register_rpc_method(self, method, handler):
        self._rpc_handlers[method] = handler

    async def perform_rpc(self, *, destination_identity, method, payload):
        self.calls.append((method, payload))
        other = self._room.other
        assert destination_identity == other.local_participant.identity, destination_identity
        handler = other.local_participant._rpc_handlers.get(method)
        if handler is None:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, method)
        return handler(rtc.RpcInvocationData("1", self.identity, payload, 10))

    async def stream_bytes(self, *, name, topic, destination_identities, attributes):
        other = self._room.other
        assert destination_identities == [other.local_participant.identity]
        self.streams.append((topic, attributes))
        reader = _Reader(attributes)
        other.byte_stream_handlers[topic](reader, self.identity)
        return _Writer(reader)


class FakeRoom(rtc.EventEmitter):
    """One participant's view of the room."""

    def __init__(self, identity):
        super().__init__()
        self.local_participant = _LocalParticipant(self, identity)
        self.byte_stream_handlers = {}
        self.remote_participants = {}
        self.other = None

    def isconnected(self):
        return True

    def register_byte_stream_handler(self, topic, handler):
        self.byte_stream_handlers[topic] = handler

    @staticmethod
    def pair(agent, avatar):
        """-> the agent's room, the avatar's"""
        rooms = FakeRoom(agent), FakeRoom(avatar)
        for room, other in zip(rooms, reversed(rooms)):
            room.other = other
            name = other.local_participant.identity
            room.remote_participants[name] = SimpleNamespace(
                identity=name, kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
                state=rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE)
        return rooms
