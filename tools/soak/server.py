#!/usr/bin/env python3
"""server.py PROGRAM [--seconds 3600]: `liveavatar serve`, with sessions and jobs that come and go.

One visitor after the other: a live session of 5 to 30 s with speech and pauses, a third of them cut by a reset; every
fourth visitor leaves a job instead, which is fetched or deleted. Every two minutes nobody is there for a moment, and
what the process holds then is a `resting` sample. Writes a line of JSON for each sample into FOLDER/server.jsonl.
"""
import argparse
import json
import random
import sys
import threading
import time
import wave
from pathlib import Path

from process import records, sample
from voice import DEMO_VOICE, SOURCE

sys.path.insert(0, str(SOURCE / "tests/serve"))
from client import PORTRAIT, Server, WebSocket, form, wait_until  # noqa: E402

PROMPT = "A friendly cartoon character talks to the camera."
PACKETS_PER_S = 10
BUSY_S, REST_S = 120, 5  # then nobody is there


def read_voice():
    """-> its rate, samples as bytes"""
    with wave.open(str(DEMO_VOICE)) as voice:
        return voice.getframerate(), voice.readframes(voice.getnframes())


def admitted(server):
    """-> a live socket, or None while a job that was deleted still has the device"""
    socket = WebSocket(server)
    return socket if socket.status == 101 else None


def live_session(server, rng, counts):
    rate, said = read_voice()
    packet = rate // PACKETS_PER_S * 2
    socket = wait_until("a session is let in", lambda: admitted(server))
    socket.send(type="start", portrait="demo", prompt=PROMPT, size="64*64", sample_rate=rate,
                format=rng.choice(["raw", "mp4"]))
    listener = threading.Thread(target=listen, args=(socket,), daemon=True)
    listener.start()
    for i in range(int(rng.uniform(5, 30) * PACKETS_PER_S)):
        at = i * packet % (len(said) + 2 * rate)  # a second of pause behind each speech
        if at + packet <= len(said):
            socket.send_sound(said[at:at + packet])
        elif at <= len(said):
            socket.send(type="end_speech")
        time.sleep(1 / PACKETS_PER_S)
    counts["sessions"] += 1
    if rng.random() < 1 / 3:
        counts["resets"] += 1
        socket.reset()
    else:
        socket.send(type="stop")
    listener.join()
    socket.close()


def listen(socket):
    try:
        while socket.receive() is not None:
            pass
    except (OSError, ValueError):
        pass  # it was reset


def job(server, rng, counts):
    files = {"image": PORTRAIT.read_bytes(), "audio": DEMO_VOICE.read_bytes()}
    headers, body = form(files, {"prompt": PROMPT, "size": "64*64"})
    status, _, answer = server.request("POST", "/v1/videos", body, headers)
    assert status in (200, 201, 202), (status, answer)
    path = "/v1/videos/" + json.loads(answer)["id"]
    counts["jobs"] += 1
    if rng.random() < 0.5:
        wait_until("the job is done", lambda: server.json(path)["status"] == "completed")
        assert len(server.get(path + "/content")[1]) > 1000
    assert server.request("DELETE", path)[0] == 200


def be_busy(server, rng, counts, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        visit = job if rng.random() < 0.25 else live_session
        visit(server, rng, counts)


def rest(server):
    """-> figures of the process when nobody is there"""
    time.sleep(REST_S)
    return sample(server.process.pid)


def watch(options, write):
    rng, counts = random.Random(1), {"sessions": 0, "resets": 0, "jobs": 0}
    begin = time.monotonic()
    ended = threading.Event()

    def sample_often(server):
        while not ended.wait(options.every):
            figures = sample(server.process.pid)
            if figures:
                write(kind="sample", t_s=round(time.monotonic() - begin, 1), **counts, **figures)

    with Server(options.program, "--ckpt_dir", SOURCE / "models/mini", "--access_log", "off") as server:
        sampler = threading.Thread(target=sample_often, args=(server,))
        sampler.start()
        try:
            while (left := options.seconds - (time.monotonic() - begin)) > 0:
                be_busy(server, rng, counts, min(BUSY_S, left))
                write(kind="resting", t_s=round(time.monotonic() - begin, 1), **counts, **rest(server))
        finally:
            ended.set()
            sampler.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--folder", default="build/soak", help="for all files")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    with records(folder / "server.jsonl") as write:
        write(kind="run", run="server", seconds=options.seconds, every_s=options.every)
        watch(options, write)
        write(kind="end")  # not after an error: report.py needs it


if __name__ == "__main__":
    main()
