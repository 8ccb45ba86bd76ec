"""Binary messages of format raw: a head, then the frames, then their sound."""
import struct
from dataclasses import dataclass

_HEAD = struct.Struct("<4sHHQIIIIII")
_MAGIC, _VERSION = b"LARW", 1


@dataclass(frozen=True)
class Chunk:
    first_frame: int
    width: int
    height: int
    fps: int
    sample_rate: int
    images: list[memoryview]  # rgb [height, width, 3], one a frame
    sounds: list[bytes]  # s16le mono, one a frame


def parse_chunk(message: bytes) -> Chunk:
    """ValueError: this is no raw message."""
    if len(message) < _HEAD.size:
        raise ValueError(f"a raw message has {_HEAD.size} bytes at least, this one {len(message)}")
    magic, version, head, first, frames, width, height, fps, rate, samples = _HEAD.unpack_from(message)
    if magic != _MAGIC or version != _VERSION:
        raise ValueError(f"a raw message begins with LARW, version 1; this one with {message[:6]!r}")
    image_bytes = width * height * 3
    sound = head + frames * image_bytes
    if len(message) != sound + 2 * samples or frames == 0 or samples % frames != 0:
        raise ValueError(f"a raw message of {len(message)} bytes does not have what its head says")
    view = memoryview(message)
    step = 2 * samples // frames
    return Chunk(first, width, height, fps, rate,
                 [view[head + i * image_bytes:head + (i + 1) * image_bytes] for i in range(frames)],
                 [message[sound + i * step:sound + (i + 1) * step] for i in range(frames)])
