#!/usr/bin/env python3
"""webrtc_absent_test.py PROGRAM: a server where WebRTC or GStreamer is missing says what to install, and serves on."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from client import PORTRAIT, VOICE, Server, WebSocket, wait_until

PROGRAM = None
SDP = {"Content-Type": "application/sdp"}


def posted(server):
    status, _, body = server.request("POST", "/v1/live/whep?portrait=demo&size=64*64", b"v=0\r\n", SDP)
    return status, json.loads(body)["error"]


class Absent(unittest.TestCase):
    def check_the_rest(self, server):
        wait_until("no session is left", lambda: server.json("/health")["sessions"] == 0)
        socket = WebSocket(server)
        self.assertEqual(socket.status, 101)
        socket.send(type="start", portrait="demo", size="64*64", format="raw", sample_rate=16000)
        socket.until_event("started")
        socket.close()

    def test_without_the_plugin_the_route_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "bin" / "liveavatar"
            program.parent.mkdir()
            shutil.copy(PROGRAM, program)
            with Server(program) as server:
                status, error = posted(server)
                self.assertEqual((status, error["code"]), (501, "no_webrtc"))
                self.assertIn("built without WebRTC: install", error["message"])
                self.check_the_rest(server)

    def test_without_the_plugin_whip_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "bin" / "liveavatar"
            program.parent.mkdir()
            shutil.copy(PROGRAM, program)
            done = subprocess.run([program, "generate", "--quiet", "--image", PORTRAIT, "--audio", VOICE, "--output",
                                   "whip+http://127.0.0.1:1/secret"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(": install ", done.stderr)  # libcurl, where that is missing too
            self.assertNotIn("secret", done.stderr)

    @unittest.skipUnless((Path(sys.argv[1]).resolve().parent.parent / "lib/liveavatar/webrtc.so").exists(), "no plugin")
    def test_without_gstreamers_elements_the_route_names_the_packages(self):
        with tempfile.TemporaryDirectory() as folder:
            env = {"GST_PLUGIN_SYSTEM_PATH_1_0": folder, "GST_PLUGIN_PATH_1_0": folder,
                   "GST_REGISTRY": str(Path(folder) / "registry")}
            with Server(PROGRAM, env=env) as server:
                status, error = posted(server)
                self.assertEqual((status, error["code"]), (501, "no_webrtc"))
                for package in ("plugins-base", "plugins-good", "plugins-bad", "plugins-ugly", "nice"):
                    self.assertIn(" gstreamer1.0-" + package, error["message"])
                self.check_the_rest(server)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
