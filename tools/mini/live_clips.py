"""Clips of a live session: what a client of `liveavatar serve` gets, frame by frame."""

import base64
import io
import pathlib
import struct
import sys

import numpy as np
from PIL import Image

import world
from speech import FPS

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests/serve"))
from client import Server, WebSocket  # noqa: E402

HEAD_BYTES = 40  # of a raw message (docs/serve.md)


class LiveClips:
    """A server, for as long as it is a context."""

    def __init__(self, args):
        self.args = args
        self.server = Server(str(args.engine), "--ckpt_dir", args.ckpt, *args.engine_flags.split())

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *what):
        return self.server.__exit__(*what)

    def clip(self, scene):
        """-> frames [T, S, S, 3] u8 of the scene's voice, which is sent at once and heard through the session's window."""
        portrait = io.BytesIO()
        Image.fromarray(scene.still).save(portrait, "PNG")
        size, pcm = self.args.size, (np.clip(scene.audio, -1, 1) * 32767).astype("<i2").tobytes()
        socket = WebSocket(self.server)
        socket.send(type="start", portrait="data:image/png;base64," + base64.b64encode(portrait.getvalue()).decode(), prompt=scene.caption,
                    size=f"{size}*{size}", sample_rate=world.RATE, format="raw", seed=self.args.seed + 1)
        socket.send_sound(pcm)
        socket.send(type="end_speech")
        frames, first = [], None
        while first is None or len(frames) < first + len(scene.frames):
            message = socket.receive()
            if isinstance(message, bytes):
                count, width, height = struct.unpack_from("<III", message, 16)
                pixels = np.frombuffer(message, np.uint8, count * height * width * 3, HEAD_BYTES)
                frames += list(pixels.reshape(count, height, width, 3))
            elif message is None or message["type"] == "error":
                raise RuntimeError(f"the live session ended: {message}")
            elif message["type"] == "playback_started":
                first = round(message["time_s"] * FPS)
        socket.close()
        return np.stack(frames[first:first + len(scene.frames)])
