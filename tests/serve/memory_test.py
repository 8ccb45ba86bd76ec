#!/usr/bin/env python3
"""memory_test.py PROGRAM: `liveavatar serve` goes on where the system refuses memory."""
import base64
import json
import os
import random
import resource
import sys
import threading
import time
import unittest
from pathlib import Path

from client import Server, WebSocket, wait_until

PROGRAM = None
ROOM = 16 << 20  # above what the server has when it is ready
SECONDS, CLIENTS = 8, 6


def address_space(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmSize:"))


class Client:
    """Asks for things of all sizes."""

    def __init__(self, server, number):
        self.server, self.random, self.seen = server, random.Random(number), set()

    def run(self, end):
        while time.monotonic() < end:
            try:
                self.random.choice((self.speak, self.upload, self.put, self.open_session))()
            except (OSError, AssertionError, ValueError, IndexError):  # cut off
                self.seen.add("cut off")

    def json(self, path, **fields):
        status, _, body = self.server.request("POST", path, json.dumps(fields).encode(),
                                              {"Content-Type": "application/json"})
        self.note(status, body)

    def note(self, status, body):
        self.seen.add(json.loads(body)["error"]["code"] if status >= 400 else status)

    def speak(self):
        self.json("/v1/audio/speech", input="Hello there. " * self.random.randrange(1, 60))

    def upload(self):
        sound = base64.b64encode(bytes(self.random.randrange(1, 20) << 20)).decode()
        self.json("/v1/videos", portrait="demo", audio=sound)

    def put(self):
        status, _, body = self.server.request("PUT", "/v1/portraits/a", bytes(self.random.randrange(1, 40) << 20))
        self.note(status, body)

    def open_session(self):
        socket = WebSocket(self.server)
        if socket.status != 101:
            return self.note(socket.status, socket.body)
        socket.send(type="start", portrait="demo", size="64*64")
        socket.send_sound(bytes(self.random.randrange(1, 12) << 20))
        for _ in range(20):
            message = socket.receive()
            if message is None:
                break
            if isinstance(message, dict) and message["type"] == "error":
                self.seen.add(message["code"])
        socket.close()


class Memory(unittest.TestCase):
    def test_a_lack_of_memory_is_an_error_of_the_request(self):
        with Server(PROGRAM, "--access_log", "off") as server:
            bytes_ = address_space(server.process.pid) + ROOM
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (bytes_, resource.RLIM_INFINITY))
            clients = [Client(server, number) for number in range(CLIENTS)]
            end = time.monotonic() + SECONDS
            threads = [threading.Thread(target=client.run, args=(end,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertIsNone(server.process.poll(), server.log[-3:])
            self.assertIn("out_of_memory", set().union(*(client.seen for client in clients)))
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            wait_until("all places are free", lambda: server.json("/health")["sessions"] == 0)
            socket = WebSocket(server)
            socket.send(type="start", portrait="demo", size="64*64")
            socket.until_event("started")
            socket.close()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
