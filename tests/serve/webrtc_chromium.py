"""Chromium without a window, by its DevTools protocol. Where it is not installed the test is skipped."""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from types import SimpleNamespace

from client import WebSocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    print("skipped: no chromium; apt install chromium")
    sys.exit(77)


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
                 "--use-fake-device-for-media-stream", "--remote-debugging-port=0", "--user-data-dir=" + self.profile]
        self.process = subprocess.Popen([CHROMIUM, *flags, "about:blank"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        address = None
        while address is None:
            line = self.process.stderr.readline()
            assert line, "chromium did not start"
            address = re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)(/\S+)", line)
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.socket = WebSocket(SimpleNamespace(port=int(address[1])), address[2])
        self.calls = 0

    def call(self, method, session=None, **params):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params}
        self.socket.send(**message, **({"sessionId": session} if session else {}))
        while True:
            answer = self.socket.receive()
            assert answer is not None, "chromium is gone"
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url):
        """-> a page's session"""
        target = self.call("Target.createTarget", url=url)["targetId"]
        return self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def run(self, page, script):
        """-> what the script's promise gives"""
        result = self.call("Runtime.evaluate", page, expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.send(id=0, method="Browser.close")
        self.socket.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()
        shutil.rmtree(self.profile, ignore_errors=True)
