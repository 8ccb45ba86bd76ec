"""Small servers that speak the protocols of OpenAI's speech, chat and transcription, well and badly."""
import email.parser
import json
import math
import os
import select
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["no_proxy"] = "127.0.0.1"  # for the programs that ask a stand-in
RATE = 24000
SECONDS_A_CHARACTER = 0.03


def tone(text, rate=RATE):
    """s16 mono: as long as the text; never silent"""
    count = int(len(text) * SECONDS_A_CHARACTER * rate)
    return b"".join(struct.pack("<h", int(6000 * math.sin(i * 0.1) + 200)) for i in range(count))


def wav(pcm, rate=RATE, size=0xFFFFFFFF):
    """as a live stream has it: of unknown length"""
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data",
                       size) + pcm


def parts_of(content_type, body):
    """-> {name: bytes} of multipart/form-data"""
    message = email.parser.BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.get_payload()}


class StandIn:
    """One server for all three. As a context it listens. What goes wrong is asked for by words in the text (for a
    transcription: by what is to be heard)."""

    def __init__(self, key=None):
        self.key = key
        self.asked = []     # (path, what was sent)
        self.to_hear = []   # what transcriptions find, in order
        self.answer = lambda messages: f"You said {messages[-1]['content']}. That is all."
        self.piece_s = 0    # between two pieces of an answer
        self.open = 0       # requests that are being answered
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.open += 1
                try:
                    outer.take(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has gone
                finally:
                    outer.open -= 1

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.flags = ("--speech_url", self.url)
        self.all_flags = (*self.flags, "--chat_url", self.url + "/v1", "--transcription_url",
                          self.url + "/v1/audio/transcriptions")

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def sent(self, path):
        return [what for where, what in self.asked if where == path]

    def take(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return self.send_json(request, 401, {"error": {"message": f"Incorrect API key: {self.key}"}})
        if request.path == "/v1/audio/speech":
            what = json.loads(body)
            self.asked.append((request.path, what))
            if not self.goes_wrong(request, what["input"]):
                self.speak(request, what)
        elif request.path == "/v1/chat/completions":
            what = json.loads(body)
            self.asked.append((request.path, what["messages"]))
            if not self.goes_wrong(request, what["messages"][-1]["content"]):
                self.chat(request, what)
        elif request.path == "/v1/audio/transcriptions":
            parts = parts_of(request.headers["Content-Type"], body)
            self.asked.append((request.path, parts))
            text = self.to_hear.pop(0) if self.to_hear else ""
            if not self.goes_wrong(request, text if text.startswith("transcription ") else ""):
                self.send_json(request, 200, {"text": f" {text} "})
        else:
            self.send_json(request, 404, {"error": {"message": "no such path"}})

    def goes_wrong(self, request, text):
        if "FAIL" in text:
            self.send_json(request, 500, {"error": {"message": "out of luck"}})
        elif "GARBAGE" in text:
            self.head(request, "application/octet-stream")
            request.wfile.write(bytes(range(256)) * 20)
        elif "HUGE" in text:
            self.head(request, "text/event-stream")
            for _ in range(4000):
                request.wfile.write(b"data: " + b"x" * 65530)
        elif "HANG" in text:
            self.be_silent(request)
        elif "ELSEWHERE" in text:
            request.send_response(302)
            request.send_header("Location", "file:///etc/passwd")
            request.end_headers()
        else:
            return False
        return True

    def be_silent(self, request):
        """until the client goes"""
        select.select([request.connection], [], [], 60)

    def head(self, request, content_type):
        request.send_response(200)
        request.send_header("Content-Type", content_type)
        request.end_headers()  # HTTP/1.0: to the connection's end

    def send_json(self, request, status, value):
        body = json.dumps(value).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def speak(self, request, what):
        pcm = tone(what["input"])
        sound = pcm if what["response_format"] == "pcm" else wav(pcm)
        if "HALF" in what["input"]:
            sound = sound[:len(sound) // 2]
        self.head(request, "audio/wav")
        for at in range(0, len(sound), 4801):  # cut within samples
            request.wfile.write(sound[at:at + 4801])
            if "SLOW" in what["input"]:
                time.sleep(0.2)
        if "HALF" in what["input"]:
            self.be_silent(request)

    def chat(self, request, what):
        assert what["stream"] is True, what
        self.head(request, "text/event-stream")
        text = self.answer(what["messages"])
        for word in text.split(" "):
            piece = {"choices": [{"delta": {"content": word + " "}}], "error": None}
            request.wfile.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
            if self.piece_s:
                time.sleep(self.piece_s)
        request.wfile.write(b'data: {"choices":[{"delta":{}, "finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
