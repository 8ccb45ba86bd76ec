#!/usr/bin/env python3
"""http_test.py PROGRAM: jobs, portraits, keys, limits and the end of `liveavatar serve`."""
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from client import PORTRAIT, VOICE, Server, WebSocket, events_of, form, wait_until

PROGRAM = None
SMALL = {"size": "64*64", "infer_frames": "24", "num_clip": "1", "prompt": "a test"}
LONG = {**SMALL, "num_clip": "0", "sample_steps": "40"}  # runs until it is cancelled


def files():
    return {"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}


def post(server, fields, of_files=None):
    headers, body = form(files() if of_files is None else of_files, fields)
    status, headers, body = server.request("POST", "/v1/videos", body, headers)
    return status, headers, json.loads(body)


def create(server, fields):
    status, _, video = post(server, fields)
    assert status == 202, video
    return video["id"]


def state(server, video):
    return server.json(f"/v1/videos/{video}")["status"]


def wait_for_state(server, video, wanted):
    wait_until(f"{video} is {wanted}", lambda: state(server, video) == wanted)


def boxes(content):
    """-> kinds of the top boxes of an MP4; fails where one is cut"""
    kinds, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at:at + 4], "big")
        assert size >= 8 and at + size <= len(content), (at, size, len(content))
        kinds.append(content[at + 4:at + 8].decode())
        at += size
    return kinds


def plays(content):
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        video.write_bytes(content)
        done = subprocess.run([PROGRAM, "sheet", video, Path(folder) / "sheet.png"], capture_output=True, text=True)
        return done.returncode == 0, done.stderr


class Jobs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--max_queue", 2, "--max_body", "2MiB")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def test_a_form_becomes_a_video_that_plays_and_has_ranges(self):
        status, headers, video = post(self.server, SMALL)
        self.assertEqual((status, video["object"]), (202, "video"))
        self.assertEqual(headers["location"], "/v1/videos/" + video["id"])
        wait_for_state(self.server, video["id"], "completed")
        done = self.server.json("/v1/videos/" + video["id"])
        self.assertEqual((done["frames_done"], done["progress"]), (24, 100))
        for key in ("first_frame_ms", "frames_per_second", "wall_s", "peak_memory_bytes"):
            self.assertGreater(done["timings"][key], 0)
        path = f"/v1/videos/{video['id']}/content"
        status, headers, content = self.server.request("GET", path)
        self.assertEqual((status, headers["accept-ranges"]), (200, "bytes"))
        self.assertEqual(plays(content), (True, ""))
        status, headers, body = self.server.request("HEAD", path)
        self.assertEqual((status, headers["content-length"], body), (200, str(len(content)), b""))
        for header, part in (("bytes=4-7", content[4:8]), ("bytes=-9", content[-9:]),
                             (f"bytes={len(content) - 3}-", content[-3:]), ("bytes=10-99999999", content[10:])):
            status, headers, body = self.server.request("GET", path, headers={"Range": header})
            self.assertEqual((status, body), (206, part), header)
            self.assertEqual(headers["content-range"].partition("/")[2], str(len(content)))
        self.assertEqual(self.server.request("GET", path, headers={"Range": f"bytes={len(content)}-"})[0], 416)
        self.assertEqual(self.server.request("DELETE", "/v1/videos/" + video["id"])[0], 200)
        self.assertEqual(self.server.get("/v1/videos/" + video["id"])[0], 404)

    def test_json_with_a_kept_portrait_gives_the_same_video(self):
        self.assertEqual(self.server.request("PUT", "/v1/portraits/me", PORTRAIT.read_bytes())[0], 200)
        self.assertEqual(self.server.get("/v1/portraits/me"), (200, PORTRAIT.read_bytes()))
        self.assertIn("me", [p["name"] for p in self.server.json("/v1/portraits")["data"]])
        body = {"portrait": "me", "audio": base64.b64encode(VOICE.read_bytes()).decode(), "prompt": "a test",
                "size": "64*64", "infer_frames": 24, "num_clip": 1}
        status, _, answer = self.server.request("POST", "/v1/videos", json.dumps(body),
                                                {"Content-Type": "application/json"})
        self.assertEqual(status, 202, answer)
        first = json.loads(answer)["id"]
        self.assertEqual(self.server.request("DELETE", "/v1/portraits/me")[0], 204)  # the job has it all the same
        self.assertEqual(self.server.get("/v1/portraits/me")[0], 404)
        second = create(self.server, SMALL)
        for video in (first, second):
            wait_for_state(self.server, video, "completed")
        contents = [self.server.get(f"/v1/videos/{video}/content")[1] for video in (first, second)]
        self.assertEqual(contents[0], contents[1])

    def test_events_tell_the_states_to_the_end(self):
        video = create(self.server, SMALL)
        status, headers, body = self.server.request("GET", f"/v1/videos/{video}/events")
        self.assertEqual((status, headers["content-type"]), (200, "text/event-stream"))
        states = [json.loads(line[6:])["status"] for line in body.decode().splitlines() if line.startswith("data: ")]
        self.assertEqual(states[-1], "completed")

    def test_content_comes_while_the_job_runs_and_plays(self):
        video = create(self.server, {**SMALL, "num_clip": "0"})
        path = f"/v1/videos/{video}/content"
        wait_until("there is a file", lambda: self.server.request("HEAD", path)[0] == 200)
        status, headers, content = self.server.request("GET", path)
        self.assertEqual(status, 200)
        self.assertEqual(plays(content), (True, ""))
        if headers.get("transfer-encoding") == "chunked":  # else the job was quicker
            self.assertEqual(boxes(content).count("moov"), 1)
            self.assertNotIn("moov", boxes(content)[2:])

    def test_a_job_is_cancelled_while_it_runs_and_while_it_waits(self):
        running = create(self.server, LONG)
        wait_for_state(self.server, running, "running")
        waiting = [create(self.server, SMALL) for _ in range(2)]
        position = [self.server.json("/v1/videos/" + video)["queue_position"] for video in waiting]
        self.assertEqual(position, [1, 2])
        status, headers, body = post(self.server, SMALL)
        self.assertEqual((status, headers["retry-after"]), (503, "10"), body)
        self.assertIn("queue", body["error"]["message"])
        for video in waiting:
            self.assertEqual(self.server.request("DELETE", "/v1/videos/" + video)[0], 200)
            self.assertEqual(state(self.server, video), "cancelled")
        self.server.request("DELETE", "/v1/videos/" + running)
        wait_for_state(self.server, running, "cancelled")
        status, body = self.server.get(f"/v1/videos/{running}/content")
        self.assertEqual((status, json.loads(body)["error"]["code"]), (409, "cancelled"))

    def test_wrong_requests_are_told_what_is_wrong_and_no_path(self):
        image, audio = files()["image"], files()["audio"]
        cases = [({"audio": audio}, SMALL, 400, "portrait"), ({"image": image}, SMALL, 400, "audio"),
                 ({"image": b"no image", "audio": audio}, SMALL, 400, "image"),
                 ({"image": image, "audio": b"no sound"}, SMALL, 400, "audio"),
                 (None, {**SMALL, "size": "nonsense"}, 400, "size"), (None, {**SMALL, "seed": "-4"}, 400, "seed"),
                 (None, {**SMALL, "sample_steps": "4x"}, 400, "sample_steps"),
                 (None, {**SMALL, "colour": "red"}, 400, "colour"),
                 ({"audio": audio}, {**SMALL, "portrait": "nobody"}, 404, "portrait")]
        for of_files, fields, wanted, word in cases:
            status, _, body = post(self.server, fields, of_files)
            self.assertEqual(status, wanted, body)
            message = body["error"]["message"]
            self.assertIn(word, message)
            self.assertNotIn("liveavatar-serve-", message)
            self.assertNotIn("\n", message)
        for body in ('{"audio": "http://127.0.0.1/x.wav", "portrait": "demo"}',
                     '{"image": "file:///etc/passwd", "audio": ""}', '{"image": "/etc/passwd"}', "[1]", "{", ""):
            status, _, answer = self.server.request("POST", "/v1/videos", body, {"Content-Type": "application/json"})
            self.assertEqual(status, 400, answer)
        self.assertEqual(self.server.request("POST", "/v1/videos", "x", {"Content-Type": "text/plain"})[0], 415)
        for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
            self.assertEqual(self.server.request("POST", "/v1/videos", "x", {"Content-Type": content_type})[0], 400)
        self.assertEqual(self.server.request("PUT", "/v1/portraits/..%2f..%2fx", PORTRAIT.read_bytes())[0], 404)
        self.assertEqual(self.server.request("PUT", "/v1/portraits/a.b", PORTRAIT.read_bytes())[0], 400)
        self.assertEqual(self.server.request("PUT", "/v1/portraits/x", b"no image")[0], 400)

    def test_paths_methods_and_sizes_are_checked(self):
        self.assertEqual(self.server.get("/nothing")[0], 404)
        self.assertEqual(self.server.get("/../etc/passwd")[0], 404)
        status, headers, _ = self.server.request("DELETE", "/v1/videos")
        self.assertEqual((status, headers["allow"]), (405, "POST, GET"))
        self.assertEqual(self.server.get("/v1/live")[0], 426)
        for path in ("/", "/health", "/openapi.json", "/v1/videos"):
            self.assertEqual(self.server.request("GET", path, b"a body")[0], 400)
        self.assertEqual(self.server.request("PUT", "/v1/portraits/big", bytes(3 << 20))[0], 413)
        connection = self.server.connect()
        connection.sendall(b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\n\r\n")
        self.assertIn(b" 431 ", connection.recv(100))
        connection.close()

    def test_the_description_names_every_route_that_answers(self):
        described = json.loads(self.server.get("/openapi.json")[1])
        self.assertEqual(described["openapi"], "3.1.0")
        for path, operations in described["paths"].items():
            for method in operations:
                status = self.server.request(method.upper(), path.replace("{id}", "x").replace("{name}", "x"))[0]
                self.assertNotEqual(status, 405, (method, path))
                if "{" not in path:
                    self.assertNotEqual(status, 404, (method, path))
        self.assertIn(b"liveavatar", self.server.get("/")[1])
        self.assertEqual(self.server.json("/v1/models")["data"][0]["id"], "mini")
        self.assertGreater(self.server.metric("liveavatar_memory_used_bytes", '{category="weights"}'), 0)


class Access(unittest.TestCase):
    def test_a_key_is_asked_for_everywhere_but_health_page_and_description(self):
        with Server(PROGRAM, env={"LIVEAVATAR_API_KEY": "secret-1"}) as server:
            for path in ("/health", "/", "/openapi.json"):
                self.assertEqual(server.get(path)[0], 200)
            for path in ("/metrics", "/v1/videos", "/v1/portraits", "/v1/models"):
                self.assertEqual(server.get(path)[0], 401)
                for wrong in ("Bearer secret-2", "Bearer secret-11", "Bearer ", "secret-1"):
                    self.assertEqual(server.get(path, {"Authorization": wrong})[0], 401)
                self.assertEqual(server.get(path, {"Authorization": "Bearer secret-1"})[0], 200)
            self.assertEqual(WebSocket(server).status, 401)
            by_protocol = {"Sec-WebSocket-Protocol": "liveavatar.v1, bearer.secret-1"}
            socket_ = WebSocket(server, headers=by_protocol)
            self.assertEqual((socket_.status, socket_.headers["sec-websocket-protocol"]), (101, "liveavatar.v1"))
            socket_.close()

    def test_pages_of_other_origins_are_kept_out_unless_they_are_allowed(self):
        page = {"Origin": "https://other.example"}
        with Server(PROGRAM) as server:
            self.assertEqual(WebSocket(server, headers=page).status, 403)
            self.assertEqual(server.request("DELETE", "/v1/portraits/demo", headers=page)[0], 403)
            self.assertNotIn("access-control-allow-origin", server.request("GET", "/health", headers=page)[1])
            own = WebSocket(server, headers={"Origin": f"http://127.0.0.1:{server.port}"})
            self.assertEqual(own.status, 101)
            own.close()
        with Server(PROGRAM, "--cors_origin", "https://other.example") as server:
            status, headers, _ = server.request("OPTIONS", "/v1/videos", headers=page)
            self.assertEqual((status, headers["access-control-allow-origin"]), (204, "https://other.example"))
            allowed = WebSocket(server, headers=page)
            self.assertEqual(allowed.status, 101)
            allowed.close()
            self.assertEqual(WebSocket(server, headers={"Origin": "https://third.example"}).status, 403)

    def test_without_a_key_names_of_others_are_refused(self):
        with Server(PROGRAM, "--allow_host", "here.example") as server:
            rebound = {"Host": f"evil.example:{server.port}"}
            for path in ("/", "/health", "/v1/portraits"):
                status, _, body = server.request("GET", path, headers=rebound)
                self.assertEqual((status, json.loads(body)["error"]["code"]), (421, "host"))
                self.assertEqual(server.get(path, {"Host": f"here.example:{server.port}"})[0], 200)
                self.assertEqual(server.get(path, {"Host": "localhost"})[0], 200)
            self.assertEqual(WebSocket(server, headers=rebound).status, 421)

    def test_a_port_that_others_reach_needs_a_key(self):
        def fails(*flags, env=None, fd=None):
            command = [PROGRAM, "serve", "--quiet", "--port", "0", *flags]
            if fd is not None:
                script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&{fd}'
                command = ["sh", "-c", script, *command]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, pass_fds=(fd,) if fd else (),
                                  env={**os.environ, **(env or {})})
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            return done.stderr

        self.assertIn("--no_key", fails("--host", "0.0.0.0"))
        self.assertIn("--api_key", fails("--api_key", ""))
        self.assertIn("LIVEAVATAR_API_KEY", fails(env={"LIVEAVATAR_API_KEY": ""}))
        with socket.create_server(("0.0.0.0", 0)) as listening:
            self.assertIn("--no_key", fails(fd=listening.fileno()))
        for flags in (["--no_key"], ["--api_key", "secret"]):
            with Server(PROGRAM, "--host", "0.0.0.0", *flags):
                pass

    def test_connections_of_one_client_are_limited(self):
        with Server(PROGRAM, "--max_connections_per_client", 3) as server:
            kept = [server.connect() for _ in range(3)]
            wait_until("they are counted", lambda: not self.is_served(server))
            for connection in kept:
                connection.close()
            wait_until("they are gone", lambda: self.is_served(server))

    @staticmethod
    def is_served(server):
        try:
            return server.get("/health")[0] == 200
        except OSError:
            return False


class Ends(unittest.TestCase):
    def test_a_running_job_ends_first_and_no_file_stays(self):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "access"
            work = Path(folder) / "work"
            work.mkdir()
            server = Server(PROGRAM, "--work_dir", work, "--access_log", log)
            video = create(server, {**SMALL, "sample_steps": "100"})
            waiting = create(server, SMALL)
            self.assertEqual(len(list(work.iterdir())), 1)
            wait_for_state(server, video, "running")
            events = server.connect()
            events.sendall(f"GET /v1/videos/{video}/events HTTP/1.0\r\n\r\n".encode())
            server.terminate()
            wait_until("it drains", lambda: server.get("/health")[0] == 503)
            self.assertEqual(state(server, waiting), "cancelled")
            self.assertEqual(server.json("/health")["status"], "draining")
            self.assertEqual(post(server, SMALL)[0], 503)
            self.assertEqual(WebSocket(server).status, 503)
            told = b""
            while (piece := events.recv(65536)):
                told += piece
            events.close()
            self.assertIn(b'"status":"completed"', told)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(list(work.iterdir()), [])
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            self.assertIn(("POST", "/v1/videos", 202), [(l["method"], l["path"], l["status"]) for l in lines])

    def test_work_that_does_not_end_is_stopped(self):
        server = Server(PROGRAM, "--drain_s", 0.2)
        wait_for_state(server, create(server, LONG), "running")
        self.assertEqual(server.stop(), 0)

    def test_a_socket_of_the_service_manager_is_taken(self):
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve --quiet --access_log off 3<&{listening.fileno()}'
        process = subprocess.Popen(["sh", "-c", script, PROGRAM], pass_fds=(listening.fileno(),),
                                   stdout=subprocess.PIPE, text=True)
        self.assertIn(f":{listening.getsockname()[1]}\n", process.stdout.readline())
        with socket.create_connection(listening.getsockname(), timeout=60) as client:
            client.sendall(b"GET /openapi.json HTTP/1.0\r\n\r\n")
            self.assertIn(b" 200 ", client.recv(100))
        process.terminate()
        self.assertEqual(process.wait(60), 0)
        process.stdout.close()
        listening.close()

    def test_the_port_of_a_kubernetes_service_is_no_flag(self):
        done = subprocess.run([PROGRAM, "serve", "--host", "nowhere"], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "LIVEAVATAR_PORT": "tcp://10.0.0.1:8080"})
        self.assertNotIn("LIVEAVATAR_PORT", done.stderr)
        self.assertIn("--host", done.stderr)

    def test_wrong_flags_are_one_line(self):
        for flags in (["--host", "nowhere"], ["--api_key_file", "/nothing"], ["--portrait", "a"],
                      ["--portrait", "a=/nothing.png"], ["--access_log", "/nothing/x"], ["--work_dir", "/nothing"],
                      ["--cors_origin", "https://a/path"], ["--allow_host", "http://a"]):
            done = subprocess.run([PROGRAM, "serve", "--quiet", *flags], capture_output=True, text=True, timeout=60)
            self.assertIn(done.returncode, (1, 2), flags)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(flags[0], done.stderr)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
