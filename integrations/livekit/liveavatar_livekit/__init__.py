"""LiveKit's avatar protocol with a portrait of `liveavatar serve`."""
from .generator import LiveAvatarGenerator
from .worker import avatar_options, run_avatar

__all__ = ["LiveAvatarGenerator", "avatar_options", "run_avatar"]
