#!/usr/bin/env python3
"""streams_test.py PROGRAM: `liveavatar generate --output` to servers, a playlist and a pipe."""
import json
import math
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import wave
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/support"))

from receivers import (KEY, PATIENCE_S, FfmpegRtmp, FfmpegSrt, NginxRtmp, Recording, SilentServer,  # noqa: E402
                       free_port, has_nginx_rtmp, has_srt, wait_until)

PROGRAM = None
ONSET_S, SECONDS = 1.0, 3.0


def write_voice(file, seconds=SECONDS):
    """Silence, and a tone of half a second at ONSET_S."""
    rate = 24000
    samples = [int(16000 * math.sin(2 * math.pi * 440 * i / rate)) if ONSET_S <= i / rate < ONSET_S + 0.5 else 0
               for i in range(int(seconds * rate))]
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(struct.pack(f"<{len(samples)}h", *samples))


class Job:
    """A `generate` that runs."""

    def __init__(self, folder, output, *flags, voice="voice.wav", stdout=subprocess.PIPE):
        command = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio", Path(folder) / voice,
                   "--size", "64*64", "--sample_steps", 2, "--threads", 2, "--output", output, *flags]
        self.begin = time.monotonic()
        self.process = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=subprocess.PIPE)

    def end(self, patience_s=PATIENCE_S):
        """-> exit code, standard output, standard error, seconds"""
        try:
            out, err = self.process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out, err.decode(), time.monotonic() - self.begin


class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.holder.name)
        write_voice(cls.folder / "voice.wav")
        write_voice(cls.folder / "long.wav", 30)
        code, _, err, _ = Job(cls.folder, cls.folder / "file.mp4").end()
        assert code == 0, err
        cls.frames = Recording(cls.folder / "file.mp4").frames
        assert cls.frames > 60, cls.frames

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def setUp(self):
        self.own = tempfile.TemporaryDirectory()
        self.addCleanup(self.own.cleanup)

    def assert_plays(self, file):
        recording = Recording(file)
        self.assertEqual(recording.codecs, {"video": "h264", "audio": "aac"})
        self.assertEqual(recording.frames, self.frames)
        self.assertEqual(recording.decoded_frames(), self.frames)
        self.assertAlmostEqual(recording.seconds("video"), (self.frames - 1) / 25, delta=0.005)
        self.assertAlmostEqual(recording.seconds("audio"), recording.seconds("video"), delta=0.08)
        self.assertAlmostEqual(recording.onset_s(), ONSET_S, delta=0.02)
        return recording

    def assert_no_secret(self, *texts):
        for text in texts:
            self.assertNotIn(KEY, text)

    def assert_fails(self, end, code, *says):
        """In one line, which has all of `says`."""
        self.assertEqual(end[0], code, end[2])
        last = end[2].splitlines()[-1]
        for part in says:
            self.assertIn(part, last)
        self.assertEqual(sum(line.startswith("liveavatar: ") for line in end[2].splitlines()), 1, end[2])
        self.assert_no_secret(end[2])

    def arrives(self, server):
        report = Path(self.own.name) / "report.json"
        code, out, err, seconds = Job(self.folder, server.url, "--report", report).end()
        self.assertEqual((code, out), (0, b""), err)
        self.assertGreaterEqual(seconds, (self.frames - 1) / 25)
        server.finish()
        self.assert_plays(server.file)
        self.assertIn("connected to ", err)
        self.assert_no_secret(err, report.read_text())
        self.assertEqual(json.loads(report.read_text())["frames"], self.frames)

    def test_rtmp_arrives_at_its_pace(self):
        with FfmpegRtmp(self.own.name) as server:
            self.arrives(server)

    @unittest.skipUnless(has_nginx_rtmp(), "no nginx with libnginx-mod-rtmp")
    def test_rtmp_arrives_at_nginx(self):
        with NginxRtmp(self.own.name) as server:
            self.arrives(server)

    @unittest.skipUnless(has_srt(), "this ffmpeg has no SRT")
    def test_srt_arrives(self):
        with FfmpegSrt(self.own.name) as server:
            self.arrives(server)

    def test_hls_plays(self):
        playlist = Path(self.own.name) / "talk.m3u8"
        code, out, err, _ = Job(self.folder, playlist, voice="long.wav").end()
        self.assertEqual((code, out), (0, b""), err)
        self.assertTrue(playlist.read_text().endswith("#EXT-X-ENDLIST\n"))
        recording = Recording(playlist)
        self.assertGreater(recording.frames, 600)
        self.assertEqual(recording.decoded_frames(), recording.frames)
        self.assertAlmostEqual(recording.seconds("video"), (recording.frames - 1) / 25, delta=0.005)
        self.assertAlmostEqual(recording.onset_s(), ONSET_S, delta=0.02)

    def test_hls_does_not_replace_the_voice_that_is_named_like_a_segment(self):
        folder = Path(self.own.name)
        voice = folder / "talk-00003.ts"
        write_voice(voice)
        (folder / "elsewhere.wav").symlink_to(voice)
        before = voice.read_bytes()
        for name in (voice.name, "elsewhere.wav"):
            end = Job(folder, folder / "talk.m3u8", voice=name).end()
            self.assert_fails(end, 2, "--output ", "talk.m3u8: --audio ", "is named like its segments")
        self.assertEqual(voice.read_bytes(), before)
        self.assertFalse((folder / "talk.m3u8").exists())

    def test_pipe_has_the_video_and_nothing_else(self):
        job = Job(self.folder, "-")
        file = Path(self.own.name) / "piped.mp4"
        code, out, err, _ = job.end()
        self.assertEqual(code, 0, err)
        self.assertIn("standard output: 64x64", err)
        file.write_bytes(out)
        self.assert_plays(file)
        self.assertEqual(out[4:8], b"ftyp")

    def test_redirected_output_is_the_same(self):
        file = Path(self.own.name) / "redirected.mp4"
        with open(file, "wb") as stdout:
            code, _, err, _ = Job(self.folder, "-", stdout=stdout).end()
        self.assertEqual(code, 0, err)
        self.assert_plays(file)

    def test_pipe_whose_reader_ends_says_so(self):
        job = Job(self.folder, "-", voice="long.wav")
        job.process.stdout.read(1000)
        job.process.stdout.close()
        job.process.stdout = None
        self.assert_fails(job.end(), 1, "standard output: the program that reads it has ended")

    def test_standard_streams_that_are_closed(self):
        job = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", "--audio", self.folder / "voice.wav",
               "--size", "64*64", "--quiet", "--output"]
        for arguments, says in (([*job, "-"], "--output -: standard output is closed"),
                                ([PROGRAM, "--help"], "standard output cannot be written")):
            for closed in (">&-", "<&- >&-"):
                end = subprocess.run(["sh", "-c", f'exec "$0" "$@" {closed}', *map(str, arguments)], capture_output=True,
                                     text=True, timeout=PATIENCE_S)
                self.assertEqual((end.returncode, end.stdout), (1, ""), end.stderr)
                self.assertIn(says, end.stderr)
                self.assertEqual(end.stderr.count("\n"), 1)

    def test_pipe_that_is_not_read_ends_with_ctrl_c(self):
        job = Job(self.folder, "-", voice="long.wav")
        job.process.stdout.read(1000)
        time.sleep(1)
        job.process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        job.process.wait(PATIENCE_S)
        self.assertLess(time.monotonic() - begin, 2.5)
        self.assertEqual(job.end()[0], 130)

    def test_wrong_address_is_known_before_the_model_is_loaded(self):
        end = Job(self.folder, f"rtmp://127.0.0.1:{free_port()}/live/{KEY}").end()
        self.assert_fails(end, 1, "--output rtmp://127.0.0.1:", "/live/***: cannot be reached (Connection refused)",
                          "check the address")
        self.assertLess(end[3], 2)

    @unittest.skipUnless(has_srt(), "this ffmpeg has no SRT")
    def test_srt_errors_say_what_to_look_at(self):
        end = Job(self.folder, f"srt://no.such.host.invalid:9000?passphrase={KEY}").end()
        self.assert_fails(end, 1, "--output srt://no.such.host.invalid:9000: ", "check host and port (UDP)")
        self.assertNotIn("Input/output", end[2])

    def test_addresses_that_cannot_be_are_refused_without_their_secrets(self):
        for address, says in ((f"rtmp://127.0.0.1/{KEY}", "names no stream"), (f"http://h/{KEY}", "no protocol"),
                              (f"srt://127.0.0.1?passphrase={KEY}", "names no port"),
                              (f"rtmp://user:pa/{KEY}@127.0.0.1/live/{KEY}", "write / as %2F")):
            self.assert_fails(Job(self.folder, address).end(), 2, "--output ", says)
        self.assert_fails(Job(self.folder, "a.mp4", "--save_file", "b.mp4").end(), 2, "leave one out")
        self.assert_fails(Job(self.folder, "a.mp4", f"rtmp://h/live/{KEY}").end(), 2, "rtmp://h/live/***")

    def test_arguments_that_nobody_knows_are_told_without_their_secrets(self):
        address = f"rtmp://h/live/{KEY}"
        cases = ((("generate", f"--outptu={address}"), "--outptu=rtmp://h/live/***; did you mean --output?"),
                 (("serve", f"studio={address}"), "studio=rtmp://h/live/***"),
                 (("generate", "--num_clip", address), "num_clip"), ((address,), "rtmp://h/live/***"))
        for arguments, says in cases:
            end = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE_S)
            self.assert_fails((end.returncode, end.stdout, end.stderr, 0), 2, says)

    def test_listener_that_never_answers_ends_the_job(self):
        with SilentServer() as server:
            end = Job(self.folder, server.url).end()
        self.assert_fails(end, 1, "/live/***: does not answer within 10 s")
        self.assertLess(end[3], 14)

    def test_ctrl_c_ends_a_connection_that_is_not_answered(self):
        with SilentServer() as server:
            job = Job(self.folder, server.url)
            time.sleep(1)
            job.process.send_signal(signal.SIGINT)
            begin = time.monotonic()
            self.assertEqual(job.end()[0], 130)
            self.assertLess(time.monotonic() - begin, 2)

    def test_ctrl_c_ends_a_stream_that_plays(self):
        with FfmpegRtmp(self.own.name) as server:
            job = Job(self.folder, server.url, voice="long.wav")
            wait_until("something arrives", lambda: server.file.exists() and server.file.stat().st_size > 20000)
            job.process.send_signal(signal.SIGINT)
            begin = time.monotonic()
            code, _, err, _ = job.end()
            self.assertLess(time.monotonic() - begin, 2.5)
            self.assertEqual(code, 130, err)
            server.finish()
            self.assertGreater(Recording(server.file).decoded_frames(), 10)
            self.assert_no_secret(err)

    def test_killed_listener_ends_the_job_and_says_how_far_it_came(self):
        with FfmpegRtmp(self.own.name) as server:
            job = Job(self.folder, server.url, voice="long.wav")
            wait_until("something arrives", lambda: server.file.exists() and server.file.stat().st_size > 20000)
            server.process.kill()
            killed = time.monotonic()
            end = job.end()
        self.assert_fails(end, 1, "/live/***: the connection was lost after ", " s of the video")
        self.assertLess(time.monotonic() - killed, 20)

    def test_listener_that_comes_back_gets_the_rest(self):
        with FfmpegRtmp(self.own.name) as server:
            job = Job(self.folder, server.url, "--num_clip", 4, voice="long.wav")
            wait_until("something arrives", lambda: server.file.exists() and server.file.stat().st_size > 20000)
        with FfmpegRtmp(self.own.name, port=server.port, name="second") as second:
            code, _, err, _ = job.end()
            self.assertEqual(code, 0, err)
            second.finish()
            recording = Recording(second.file)
            self.assertGreater(recording.decoded_frames(), 10)
            self.assertAlmostEqual(recording.seconds("audio"), recording.seconds("video"), delta=0.1)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        print("no ffmpeg and ffprobe; scripts/install-deps")
        sys.exit(77)
    unittest.main(verbosity=2)
