#!/usr/bin/env python3
"""tls_test.py PROGRAM: `liveavatar serve --tls_cert --tls_key`."""
import json
import ssl
import subprocess
import sys
import time
import unittest

from client import PORTRAIT, TLS, VOICE, Server, WebSocket, binaries_of, form, wait_until

PROGRAM = None
FLAGS = ("--tls_cert", TLS / "certificate.pem", "--tls_key", TLS / "key.pem")


class Tls(unittest.TestCase):
    def test_requests_and_sessions_are_served(self):
        with Server(PROGRAM, *FLAGS) as server:
            self.assertIsNotNone(server.tls)
            self.assertEqual(server.get("/health")[0], 200)
            upload = server.request("PUT", "/v1/portraits/me", PORTRAIT.read_bytes())
            self.assertEqual(upload[0], 200, upload)
            self.assertEqual(server.get("/v1/portraits/me")[1], PORTRAIT.read_bytes())
            live = WebSocket(server, headers={"Origin": f"https://127.0.0.1:{server.port}"})
            self.assertEqual(live.status, 101, live.body)
            live.send(type="start", portrait="me", size="64*64")
            came = live.until_event("stats")
            self.assertEqual(len(binaries_of(came)), 4)  # the init segment and a block
            live.send(type="stop")
            live.until_event("stopped")
            self.assertIsNone(live.receive())
            self.assertEqual(live.close_code, 1000)
            live.close()

    def test_the_end_of_a_connection_is_told(self):
        with Server(PROGRAM, *FLAGS) as server, server.connect() as plain:
            stream = server.tls.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
            stream.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
            self.assertIn(b"200 OK", answer)

    def test_old_protocols_plain_text_and_silence_are_cut_off(self):
        with Server(PROGRAM, *FLAGS, "--header_timeout_s", 1) as server:
            with server.connect() as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self.assertNotIn(b"200", plain.recv(4096))
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            with server.connect() as plain, self.assertRaises((ssl.SSLError, ConnectionError)):
                old.wrap_socket(plain)
            with server.connect() as silent:
                begin = time.monotonic()
                self.assertEqual(silent.recv(1), b"")
                self.assertLess(time.monotonic() - begin, 20)
            self.assertEqual(server.get("/health")[0], 200)

    def test_refusals_are_heard(self):
        with Server(PROGRAM, *FLAGS, "--max_body", "1MiB", "--max_connections", 1) as server:
            with server.connect() as plain:
                stream = server.tls.wrap_socket(plain, server_hostname="localhost")
                stream.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n")
                stream.sendall(b"x" * 500000)
                self.assertIn(b" 413 ", stream.recv(4096))
                with server.connect() as second:
                    other = server.tls.wrap_socket(second, server_hostname="localhost")
                    other.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    self.assertIn(b"too many connections", other.recv(4096))

    def test_a_client_that_goes_gives_its_connection_back(self):
        with Server(PROGRAM, *FLAGS) as server:
            video = server.request("POST", "/v1/videos", *reversed(form(
                {"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}, {"size": "128*128"})))
            self.assertEqual(video[0], 202, video)
            with server.connect() as plain:
                stream = server.tls.wrap_socket(plain, server_hostname="localhost")
                path = f"/v1/videos/{json.loads(video[2])['id']}/events"
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                self.assertIn(b" 200 ", stream.recv(4096))
                stream.close()
            wait_until("the connection is given back", lambda: server.metric("liveavatar_http_connections") == 1, 10)

    def test_wrong_files_are_one_line(self):
        missing, other = TLS / "none.pem", TLS / "other_key.pem"
        for flags, words in (((FLAGS[0], FLAGS[1]), "--tls_key"), (("--tls_cert", missing, *FLAGS[2:]), "cannot be read"),
                             (("--tls_cert", PORTRAIT, *FLAGS[2:]), "PEM"), ((*FLAGS[:3], PORTRAIT), "PEM"),
                             ((*FLAGS[:3], other), "no key in PEM"), (("--tls_cert", TLS, *FLAGS[2:]), "PEM")):
            done = subprocess.run([PROGRAM, "serve", "--port", "0", "--quiet", *map(str, flags)], capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual((done.returncode in (1, 2), done.stdout), (True, ""), done)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
