"""A server of the real program, and clients of it that need nothing but Python."""
import base64
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PORTRAIT = SOURCE / "assets/demo/portrait.png"
VOICE = SOURCE / "assets/demo/voice.wav"
TLS = SOURCE / "tests/serve/tls"  # of localhost, for tests alone
PATIENCE_S = 120  # of anything that must happen; a loaded machine is slow


def wait_until(what, condition, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"did not happen in {patience_s} s: {what}")


class Server:
    """`liveavatar serve`, on a free port where none is given. As a context it is ready, and ends with code 0."""

    def __init__(self, program, *flags, env=None, wait=True, port=0):
        command = [program, "serve", "--port", str(port), "--threads", "2", *map(str, flags)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.log = []
        self.terminated = False
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        line = self.process.stdout.readline()
        match = re.fullmatch(r"https?://.*:(\d+)\n", line)
        if not match:
            self.process.wait()
            self.reader.join()
            raise AssertionError(f"no address: {line!r} {self.log}")
        self.port = int(match[1])
        self.tls = None
        if line.startswith("https"):
            self.tls = ssl.create_default_context(cafile=TLS / "certificate.pem")
        if wait:
            wait_until("the model is loaded", lambda: self.get("/health")[0] == 200)

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is None:
            assert code == 0, (code, self.log[-5:])

    def terminate(self):
        """Once: a second signal ends it at once."""
        if not self.terminated and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.terminated = True

    def stop(self, patience_s=PATIENCE_S):
        """-> the exit code"""
        self.terminate()
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.reader.join(10)
            self.process.stdout.close()
            self.process.stderr.close()

    def request(self, method, path, body=None, headers=None):
        """-> status, headers with names in lower case, body"""
        tls = getattr(self, "tls", None)  # some tests know no more of a server than its port
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        with_tls = {"context": tls} if tls else {}
        connection = kind("127.0.0.1", self.port, timeout=PATIENCE_S, **with_tls)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path, headers=None):
        status, _, body = self.request("GET", path, headers=headers)
        return status, body

    def json(self, path):
        return json.loads(self.get(path)[1])

    def metric(self, name, labels=""):
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + labels + " "):
                return float(line.split()[-1])
        return None

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


def form(files, fields=None):
    """-> headers, body of multipart/form-data"""
    boundary = "liveavatar-test-boundary"
    parts = []
    for name, value in (fields or {}).items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, content in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, b"".join(parts)


class WebSocket:
    """RFC 6455, enough of it."""

    def __init__(self, server, path="/v1/live", headers=None, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", server.port))
        if getattr(server, "tls", None):
            self.socket = server.tls.wrap_socket(self.socket, server_hostname="localhost")
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": f"127.0.0.1:{server.port}", "Upgrade": "websocket", "Connection": "Upgrade",
                 "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13", **(headers or {})}
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        self.socket.sendall(head.encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        self.body = b""
        if self.status != 101:
            self.body = self.file.read(int(self.headers.get("content-length", 0)))
            self.socket.close()
        self.close_code = None

    def send_frame(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | opcode, 0x80 | size])
        elif size < 65536:
            head = bytes([0x80 | opcode, 0x80 | 126]) + struct.pack(">H", size)
        else:
            head = bytes([0x80 | opcode, 0x80 | 127]) + struct.pack(">Q", size)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        self.socket.sendall(head + mask + masked)

    def send(self, **event):
        self.send_frame(1, json.dumps(event).encode())

    def send_sound(self, pcm):
        self.send_frame(2, pcm)

    def receive(self):
        """-> an event (dict), bytes, or None at the end"""
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                return None
            opcode, size = head[0] & 15, head[1] & 127
            if size == 126:
                size = struct.unpack(">H", self.file.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.file.read(8))[0]
            payload = self.file.read(size)
            if len(payload) < size:
                return None
            if opcode == 8:
                if size >= 2:
                    self.close_code = struct.unpack(">H", payload[:2])[0]
                self.send_frame(8, payload)
                return None
            if opcode == 9:
                self.send_frame(10, payload)
            elif opcode == 1:
                return json.loads(payload)
            elif opcode == 2:
                return payload

    def until(self, wanted):
        """-> what came, up to and with the first that wanted(message) takes."""
        came = []
        while True:
            message = self.receive()
            assert message is not None, f"closed with {self.close_code} after {events_of(came)[-5:]}"
            came.append(message)
            if wanted(message):
                return came

    def until_event(self, kind):
        return self.until(lambda m: isinstance(m, dict) and m["type"] == kind)

    def close(self):
        self.file.close()
        self.socket.close()

    def reset(self):
        """Vanishes: RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def events_of(messages, kind=None):
    return [m for m in messages if isinstance(m, dict) and kind in (None, m["type"])]


def binaries_of(messages):
    return [m for m in messages if isinstance(m, bytes)]
