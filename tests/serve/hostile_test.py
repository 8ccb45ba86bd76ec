#!/usr/bin/env python3
"""hostile_test.py PROGRAM: clients that vanish, babble, dawdle or never read, beside a good session."""
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import unittest

from client import Server, WebSocket, binaries_of, wait_until

PROGRAM = None
START = {"type": "start", "portrait": "demo", "prompt": "a test", "size": "64*64", "sample_rate": 16000}
QUICK = ("--header_timeout_s", 1, "--read_timeout_s", 1, "--access_log", "off")


def vanish(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def ends(connection):
    """Whether the server closes it"""
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass
    connection.close()
    return True


def resources(server):
    return {name: server.metric(name) for name in ("process_open_fds", "process_threads")}


class GoodSession(threading.Thread):
    """Speaks and counts its frames until it is told to stop."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.socket = WebSocket(server)
        assert self.socket.status == 101, self.socket.status
        self.first_frames, self.finished = [], 0
        self.done, self.error = threading.Event(), None
        self.start()

    def run(self):
        try:
            self.socket.send(**START, format="raw")
            while not self.done.is_set():
                self.socket.send_sound(bytes(3200))
                self.socket.send(type="end_speech")
                came = self.socket.until_event("playback_finished")
                self.finished += 1
                self.first_frames += [struct.unpack_from("<Q", m, 8)[0] for m in binaries_of(came)]
            self.socket.send(type="stop")
            self.socket.until_event("stopped")
            self.socket.close()
        except Exception as error:
            self.error = error

    def end(self):
        self.done.set()
        self.join()
        if self.error:
            raise self.error


class Hostile(unittest.TestCase):
    def test_fifty_clients_leave_nothing_and_a_good_session_misses_no_frame(self):
        with Server(PROGRAM, *QUICK, "--max_sessions", 8) as server:
            self.visit(server, 4)  # what is made once is made now
            before = resources(server)
            good = GoodSession(server)
            self.visit(server, 50)
            at = good.finished
            wait_until("the good session goes on", lambda: good.finished > at or good.error)
            good.end()
            self.assertEqual(good.first_frames, list(range(0, 4 * len(good.first_frames), 4)))
            wait_until("the sessions are gone", lambda: server.json("/health")["sessions"] == 0)
            wait_until(f"resources are {before}", lambda: resources(server) == before)

    def visit(self, server, count):
        kinds = [self.garbage, self.half_a_head, self.half_a_body, self.vanish_in_a_session, self.vanish_in_an_upload,
                 self.cancel, self.bad_frames, self.vanish_at_the_start]
        clients = [threading.Thread(target=kinds[i % len(kinds)], args=(server, i)) for i in range(count)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def garbage(self, server, seed):
        connection = server.connect()
        connection.sendall(random.Random(seed).randbytes(3000))
        ends(connection)

    def half_a_head(self, server, _):
        connection = server.connect()
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        ends(connection)

    def half_a_body(self, server, _):
        connection = server.connect()
        connection.sendall(b"POST /v1/videos HTTP/1.1\r\nContent-Length: 1000\r\nContent-Type: text/plain\r\n\r\nabc")
        ends(connection)

    def vanish_in_an_upload(self, server, _):
        connection = server.connect()
        connection.sendall(b"PUT /v1/portraits/x HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(5000))
        vanish(connection)

    def vanish_in_a_session(self, server, seed):
        client = WebSocket(server)
        if client.status == 101:
            client.send(**START, format=("raw", "mp4")[seed % 2])
            client.send_sound(bytes(6400))
            client.until(lambda m: isinstance(m, bytes) or m["type"] == "error")
            client.reset()

    def vanish_at_the_start(self, server, _):
        client = WebSocket(server)
        if client.status == 101:
            client.send(**START, format="raw")
            client.reset()

    def cancel(self, server, _):
        client = WebSocket(server)
        if client.status == 101:
            client.send(**START, format="raw")
            client.send(type="stop")
            while client.receive() is not None:
                pass
            client.close()

    def bad_frames(self, server, seed):
        client = WebSocket(server)
        if client.status == 101:
            client.socket.sendall(random.Random(seed).randbytes(2000))
            client.close()

    def test_clients_that_break_the_rules_while_they_are_closed_keep_no_place(self):
        def frame(head, payload=b""):
            return bytes([head, 0x80 | len(payload)]) + bytes(4) + payload

        ping, reserved_opcode = frame(0x89), frame(0x83)
        with Server(PROGRAM, *QUICK, "--max_sessions", 2) as server:
            for closes in (frame(0x81, b'{"type":"stop"}'), frame(0x82, b"sound before start")):
                for pings in range(4):
                    client = WebSocket(server)
                    self.assertEqual(client.status, 101)
                    client.socket.sendall(closes + pings * ping + reserved_opcode)
                    client.socket.shutdown(socket.SHUT_WR)
                    wait_until("the session is gone", lambda: server.json("/health")["sessions"] == 0, 30)
                    client.close()

    def test_a_byte_at_a_time_is_cut_off(self):
        with Server(PROGRAM, *QUICK) as server:
            for head in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
                         b"PUT /v1/portraits/x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"):
                connection = server.connect()
                is_body = head.startswith(b"PUT")
                if is_body:
                    connection.sendall(head)
                self.assertTrue(self.is_cut_off(connection, bytes(1000) if is_body else head + bytes(1000)))

    @staticmethod
    def is_cut_off(connection, text):
        connection.settimeout(0.2)
        try:
            for byte in text[:100]:
                connection.sendall(bytes([byte]))
                try:
                    if connection.recv(100) == b"":
                        return True
                except socket.timeout:
                    continue
        except OSError:
            return True
        finally:
            connection.close()
        return False

    def test_a_client_that_never_reads_is_dropped_and_disturbs_nobody(self):
        with Server(PROGRAM, *QUICK, "--send_queue", "1MiB", "--slow_reader_s", 1) as server:
            good = GoodSession(server)
            deaf = WebSocket(server, receive_bytes=4096)
            deaf.send(**{**START, "size": "128*128"}, format="raw")
            wait_until("the deaf client is dropped", lambda: server.metric("liveavatar_slow_readers_total") == 1)
            wait_until("its session is gone", lambda: server.json("/health")["sessions"] == 1)
            at = good.finished
            wait_until("the good session goes on", lambda: good.finished > at or good.error)
            good.end()
            self.assertEqual(good.first_frames, list(range(0, 4 * len(good.first_frames), 4)))
            deaf.close()

    def test_a_deaf_client_that_asks_for_ever_is_dropped(self):
        with Server(PROGRAM, *QUICK, "--send_queue", "64KiB") as server:
            deaf = WebSocket(server, receive_bytes=4096)
            deaf.socket.settimeout(1)
            try:
                for number in range(2000):
                    deaf.send(type="ping", id="x" * 60000 + str(number))
            except OSError:
                pass
            wait_until("it is dropped", lambda: server.json("/health")["sessions"] == 0)
            deaf.close()

    def test_a_message_that_is_too_large_ends_the_socket(self):
        with Server(PROGRAM, *QUICK) as server:
            client = WebSocket(server)
            client.socket.sendall(bytes([0x82, 0x80 | 127]) + struct.pack(">Q", 1 << 40) + bytes(4))
            self.assertIsNone(client.receive())
            client.close()
            wait_until("it is gone", lambda: server.json("/health")["sessions"] == 0)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
