"""A Pipecat service with a portrait of `liveavatar serve`."""
from .service import LiveAvatarVideoService

__all__ = ["LiveAvatarVideoService"]
