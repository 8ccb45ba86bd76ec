"""A long voice: the demo's, again and again with pauses. Equal seconds give equal samples."""
import random
import wave
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
DEMO_VOICE = SOURCE / "assets/demo/voice.wav"
FPS = 25
LONGEST_PAUSE_FRAMES = 75


def plan_voice(seconds, said_frames):
    """-> list of (frame where it begins to speak, frames of the pause before)"""
    rng, at, turns = random.Random(1), 0, []
    while at < seconds * FPS:
        pause = rng.randrange(0, LONGEST_PAUSE_FRAMES) if turns else 0
        turns.append((at + pause, pause))
        at += pause + said_frames
    return turns


def read_demo():
    """-> (form, samples as bytes, frames of video that they fill). Padded with silence to whole frames."""
    with wave.open(str(DEMO_VOICE)) as voice:
        form, data = voice.getparams(), voice.readframes(voice.getnframes())
    frame_bytes = form.framerate // FPS * form.sampwidth
    return form, data + bytes(-len(data) % frame_bytes), -(-len(data) // frame_bytes)


def write_voice(file, seconds):
    """-> the frames at which the demo's voice begins"""
    form, said, said_frames = read_demo()
    frame_bytes = form.framerate // FPS * form.sampwidth
    left, turns = seconds * FPS * frame_bytes, plan_voice(seconds, said_frames)
    with wave.open(str(file), "wb") as out:
        out.setparams(form)
        for _, pause in turns:
            part = (bytes(pause * frame_bytes) + said)[:left]
            out.writeframesraw(part)
            left -= len(part)
    return [begin for begin, _ in turns]
