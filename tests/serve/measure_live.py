#!/usr/bin/env python3
"""measure_live.py PROGRAM [--seconds S] [--size W*H] [--sessions N] [--format raw|mp4] [--record FILE]

A voice at real time over the live socket of a server on this machine, 2.7 s and a pause of 1.5 s, every fifth speech
interrupted. Prints what a client notices. docs/live.md has figures.
"""
import argparse
import array
import json
import random
import subprocess
import threading
import time
import wave

from client import VOICE, Server, WebSocket

RATE = 22050  # of the demo voice
PACKET = RATE // 50
SPEECH_PACKETS, PAUSE_PACKETS = 135, 75
RESERVE_S = 0.12  # of a player behind its usual arrival; that of the page


def voice():
    """-> s16 samples, none of them 0, so that they are told from silence."""
    with wave.open(str(VOICE)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        samples = array.array("h", file.readframes(file.getnframes()))
    return array.array("h", (value or 1 for value in samples))


def quantile(values, share):
    values = sorted(values)
    return values[int(share * (len(values) - 1) + 0.5)] if values else float("nan")


class Client:
    def __init__(self, server, args, number):
        self.args, self.number = args, number
        self.socket = WebSocket(server)
        assert self.socket.status == 101, self.socket.body
        self.socket.send(type="start", portrait="demo", prompt="A friendly cartoon character talks to the camera.",
                         size=args.size, sample_rate=RATE, format=args.format, look_ahead_s=args.look_ahead_s,
                         seed=420 + number)
        self.lock = threading.Lock()
        self.pushes = []  # of each speech, when its packets were sent
        self.packet_s, self.first_s, self.told_s, self.stop_s = [], [], [], []
        self.arrivals, self.stats = [], []
        self.interrupted_at = None
        self.speech, self.samples = -1, 0  # what came back so far
        self.begun_s = None
        self.file = open(args.record, "wb") if args.record and number == 0 else None
        self.threads = [threading.Thread(target=self.talk), threading.Thread(target=self.listen)]
        self.ended = False

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()
        if self.file:
            self.file.close()

    def talk(self):
        samples, at = voice(), 0
        begin = time.monotonic()
        cut = random.Random(self.number)
        turn = SPEECH_PACKETS + PAUSE_PACKETS
        cut_at = None
        for i in range(int(self.args.seconds * 50)):
            time.sleep(max(0, begin + (i + 1) / 50 - time.monotonic()))
            speech, packet = divmod(i, turn)
            if packet == 0:
                cut_at = cut.randrange(40, 120) if speech % 5 == 4 else SPEECH_PACKETS
                with self.lock:
                    self.pushes.append([])
            if packet == cut_at:
                if cut_at < SPEECH_PACKETS:
                    self.interrupted_at = time.monotonic() + cut.random() * 0.02
                    time.sleep(max(0, self.interrupted_at - time.monotonic()))
                    self.interrupted_at = time.monotonic()
                    self.socket.send(type="interrupt")
                else:
                    self.socket.send(type="end_speech")
            if packet >= cut_at:
                continue
            if at + PACKET > len(samples):
                at = 0
            with self.lock:
                self.pushes[speech].append(time.monotonic())
            self.socket.send_sound(samples[at:at + PACKET].tobytes())
            at += PACKET
        time.sleep(1)
        self.ended = True
        self.socket.send(type="stop")

    def listen(self):
        while (message := self.socket.receive()) is not None:
            now = time.monotonic()
            if isinstance(message, bytes):
                self.arrivals.append(now)
                if self.file:
                    self.file.write(message)
                if self.args.format == "raw":
                    self.take_sound(message, now)
            else:
                self.take_event(message, now)
        assert self.ended, self.socket.close_code

    def take_event(self, event, now):
        if event["type"] == "started":
            self.begun_s = now
        elif event["type"] == "playback_started":
            self.speech, self.samples = event["speech"], 0
            if self.args.format == "mp4":
                self.first_s.append(now - self.pushes[self.speech][0])
        elif event["type"] == "interrupted":
            self.told_s.append(now - self.interrupted_at)
        elif event["type"] == "playback_finished" and event["interrupted"] and self.interrupted_at:
            # The last chunk with speech has come; it is played out a reserve and its own 0.16 s later at most.
            self.stop_s.append(now - self.interrupted_at)
        elif event["type"] == "stats":
            self.stats.append(event)
        elif event["type"] == "error":
            raise AssertionError(event)

    def take_sound(self, message, now):
        frames = int.from_bytes(message[16:20], "little")
        samples = int.from_bytes(message[36:40], "little")
        assert samples == frames * RATE // 25
        sound = array.array("h", message[-2 * samples:])
        heard = sum(1 for value in sound if value)
        if not heard or self.speech < 0:
            return
        with self.lock:
            pushed = self.pushes[self.speech]
        first, last = self.samples // PACKET, min((self.samples + heard - 1) // PACKET, len(pushed) - 1)
        if self.samples == 0:
            self.first_s.append(now - pushed[0])
        self.packet_s += [now - pushed[i] for i in range(first, last + 1) if self.samples <= i * PACKET]
        self.samples += heard

    def figures(self):
        # A chunk is 0.16 s of video. Its usual arrival is the median's; a player is RESERVE_S behind that.
        chunks = [at for at in self.arrivals if at >= self.begun_s][1 if self.args.format == "mp4" else 0:]
        offsets = [at - 0.16 * i for i, at in enumerate(chunks)][7:]
        firsts = [offset for i, offset in enumerate(offsets, 7) if i % 3 == 0]
        usual = quantile(firsts, 0.5)
        late = sum(offset > usual + RESERVE_S for offset in offsets)
        def ms(values, share):
            return round(1000 * quantile(values, share)) if values else None

        return {
            "chunks": len(chunks), "frames": 4 * len(chunks),
            "speech_to_frame_ms": [ms(self.packet_s, 0.5), ms(self.packet_s, 0.95)] if self.packet_s else None,
            "silence_to_speech_ms": [ms(self.first_s, 0.5), ms(self.first_s, 0.95)],
            "interrupt_told_ms": [ms(self.told_s, 0.5), ms(self.told_s, 0.95)],
            "interrupt_last_chunk_ms": [ms(self.stop_s, 0.5), ms(self.stop_s, 0.95)],
            "late_chunks": late, "latest_ms": round(1000 * (max(offsets) - usual)),
            "blocks_late": sum(s["late_s"] > 0.02 for s in self.stats[3:]),
            "paused_s": self.stats[-1]["paused_s"], "gaps": self.stats[-1]["gaps"],
            "block_ms": {k: ms([s[k] / 1000 for s in self.stats], 0.5)
                         for k in ("hear_ms", "sample_ms", "decode_ms", "encode_ms", "send_ms")}}


def resident_kib(pid):
    """Without what the system can drop, the pages of files: the weights."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def watch_memory(pid, clients, kib):
    while any(thread.is_alive() for client in clients for thread in client.threads):
        time.sleep(5)
        kib.append(resident_kib(pid))


def streams_end_s(path):
    """-> where video and audio end, by FFmpeg"""
    ends = []
    for stream, usual in (("v:0", 0.04), ("a:0", 0.02)):
        out = subprocess.run(["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries",
                              "packet=pts_time,duration_time", "-of", "csv=p=0", path], capture_output=True, text=True,
                             check=True).stdout.split()
        pts, duration = out[-1].split(",")[:2]
        ends.append(float(pts) + (usual if duration == "N/A" else float(duration)))
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--size", default="128*128")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--format", default="raw", choices=["raw", "mp4"])
    parser.add_argument("--look_ahead_s", type=float, default=0.08)
    parser.add_argument("--record", help="what came, of the first session; with mp4 its streams' ends are compared")
    args = parser.parse_args()
    with Server(args.program, "--max_sessions", args.sessions) as server:
        clients = [Client(server, args, i) for i in range(args.sessions)]
        for client in clients:
            client.start()
        refused = WebSocket(server)
        print("one more:", refused.status, refused.body.decode())
        kib = []
        watch_memory(server.process.pid, clients, kib)
        for client in clients:
            client.join()
            print(json.dumps(client.figures()))
        print("resident KiB, ten times:", [kib[len(kib) * i // 10] for i in range(10)], "at the end:", kib[-1])
    if args.record and args.format == "mp4":
        video, audio = streams_end_s(args.record)
        print(f"picture ends at {video:.3f} s, sound at {audio:.3f} s")


if __name__ == "__main__":
    main()
