"""Chromium, headless, by the DevTools protocol; needs nothing but Python."""
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import types
from pathlib import Path

from client import PATIENCE_S, WebSocket, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page. `evaluate` runs JavaScript in it, `errors` has what the console called one."""

    def __init__(self, *flags, microphone=None, width=1280, height=900):
        self.folder = tempfile.TemporaryDirectory(prefix="liveavatar-chromium-")
        command = [CHROMIUM, "--headless=new", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                   "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
                   "--autoplay-policy=document-user-activation-required", "--use-fake-device-for-media-stream",
                   f"--user-data-dir={self.folder.name}", "--remote-debugging-port=0",
                   f"--window-size={width},{height}", *flags]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses root
        if microphone:
            command.append(f"--use-file-for-fake-audio-capture={microphone}")
        self.log = open(Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen([*command, "about:blank"], stdout=self.log, stderr=self.log)
        self.number = 0
        self.events = []
        self.socket = None
        self.connect()
        self.size(width, height)

    def connect(self):
        port_file = Path(self.folder.name) / "DevToolsActivePort"

        def address():
            assert self.process.poll() is None, self.log_text()
            return port_file.exists() and re.fullmatch(r"(\d+)\n(/\S+)", port_file.read_text())

        found = wait_until("Chromium listens", address)
        self.at = types.SimpleNamespace(port=int(found[1]))
        self.socket = WebSocket(self.at, found[2])
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.socket.close()
        self.socket = WebSocket(self.at, f"/devtools/page/{target}")
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def log_text(self):
        self.log.seek(0)
        return self.log.read()[-2000:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.socket:
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder.name, ignore_errors=True)  # its children may still write
        self.folder._finalizer.detach()

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(id=self.number, method=method, params=parameters)
        while True:
            message = self.socket.receive()
            assert message is not None, f"Chromium is gone: {self.log_text()}"
            if message.get("id") == self.number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def open(self, url, before=None):
        """before: JavaScript that runs ahead of the page's own."""
        if before:
            self.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression, as_user=False):
        """-> the value; as_user: as if in an event of the user, who may start sound."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True,
                           userGesture=as_user)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, expression, patience_s=PATIENCE_S):
        try:
            return wait_until(expression, lambda: self.evaluate(f"Boolean({expression})"), patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.text('status')!r}, problem: {self.text('problem')!r}, "
                                 f"errors: {self.errors()}") from None

    def text(self, node):
        return self.evaluate(f"document.getElementById('{node}')?.innerText ?? ''")

    def click(self, node):
        self.evaluate(f"document.getElementById('{node}').click()", as_user=True)

    def key(self, name, code=0):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def choose_file(self, selector, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def allow_microphone(self, allowed=True):
        setting = "granted" if allowed else "denied"
        self.call("Browser.setPermission", permission={"name": "microphone"}, setting=setting)

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, **features):
        """prefer(prefers_color_scheme="dark")"""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=listed)

    def screenshot(self, path, whole=False):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def errors(self):
        """Uncaught exceptions and errors of the console, of the network and of the page's policy."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
            elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
                found.append(json.dumps(parameters["args"]))
        return found
