#!/usr/bin/env python3
"""schema_test.py PROGRAM [EXAMPLES [SECONDS]]: the server answers as its /openapi.json says, by schemathesis; skipped
where that is not installed (tests/serve/requirements.txt)."""
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from client import PORTRAIT, VOICE, Server, form, wait_until

KEY = "of-the-test"
# A job that is complete, so that its video and its ranges are asked for. No generator draws a portrait or an offer of
# WebRTC, so what is valid by its schema is refused there. The live socket is not HTTP.
CONFIG = """
[[operations]]
include-path-regex = "^/v1/videos/.*"
include-method = "GET"
parameters = {{ "path.id" = "{video}" }}

[checks]
positive_data_acceptance.enabled = false
"""
HOOKS = """
import schemathesis

@schemathesis.serializer("application/sdp")
def sdp(context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
"""


def completed_video(server, headers):
    kind, body = form({"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()},
                      {"size": "64*64", "infer_frames": "12", "num_clip": "1"})
    video = json.loads(server.request("POST", "/v1/videos", body, {**kind, **headers})[2])["id"]
    wait_until("the video is complete", lambda: json.loads(
        server.get("/v1/videos/" + video, headers)[1])["status"] == "completed")
    return video


def run(program, examples="10", seconds="60"):
    headers = {"Authorization": f"Bearer {KEY}"}
    with tempfile.TemporaryDirectory() as folder, Server(program, "--api_key", KEY, "--access_log", "off") as server:
        Path(folder, "schemathesis.toml").write_text(CONFIG.format(video=completed_video(server, headers)))
        Path(folder, "schema_hooks.py").write_text(HOOKS)
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json",
                   "--header", f"Authorization: Bearer {KEY}", "--exclude-path", "/v1/live", "--seed", "1",
                   "--max-examples", examples, "--max-time", seconds, "--request-timeout", "60", "--no-color",
                   "--generation-database", "none"]
        environment = {**os.environ, "PYTHONPATH": folder, "SCHEMATHESIS_HOOKS": "schema_hooks"}
        return subprocess.run(command, cwd=folder, env=environment).returncode


if __name__ == "__main__":
    if importlib.util.find_spec("schemathesis") is None:
        print("skipped: there is no schemathesis; see tests/serve/requirements.txt")
        sys.exit(77)
    sys.exit(run(*sys.argv[1:]))
