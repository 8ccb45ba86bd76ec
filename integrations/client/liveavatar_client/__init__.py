"""A client of the live socket of `liveavatar serve` (docs/serve.md), format raw."""
from .avatar import Frame, LiveAvatar, SpeechFinished, SpeechStarted
from .raw import Chunk
from .socket import LiveAvatarError, LiveOptions, LiveSocket

__all__ = ["Chunk", "Frame", "LiveAvatar", "LiveAvatarError", "LiveOptions", "LiveSocket", "SpeechFinished",
           "SpeechStarted"]
