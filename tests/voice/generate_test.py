#!/usr/bin/env python3
"""generate_test.py PROGRAM: `liveavatar generate --tts`, by espeak-ng and by a stand-in of another server."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
from client import PORTRAIT, VOICE  # noqa: E402
from stand_ins import StandIn  # noqa: E402

PROGRAM = None
PLUGIN = Path(sys.argv[1]).resolve().parent.parent / "lib/liveavatar/espeak.so"
QUICK = ("--size", "64*64", "--sample_steps", "1", "--threads", "2")


class Generate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)

    def tearDown(self):
        left = [str(p) for p in self.path.glob("liveavatar-tts-*")]
        self.folder.cleanup()
        self.assertEqual(left, [])  # our own files

    def run_program(self, *flags, program=None, **env):
        command = [program or PROGRAM, "generate", "--image", PORTRAIT, *QUICK, *map(str, flags)]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.path,
                              env={**os.environ, "TMPDIR": str(self.path), **env})

    def error(self, *flags, code=None, **options):
        done = self.run_program(*flags, **options)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("note:")]
        self.assertNotEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        if code is not None:
            self.assertEqual(done.returncode, code, done.stderr)
        return lines[0]

    def seconds_of(self, video):
        from_ffprobe = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "stream=codec_type,duration", "-of",
                                       "csv=p=0", str(self.path / video)], capture_output=True, text=True)
        return {line.split(",")[0]: float(line.split(",")[1]) for line in from_ffprobe.stdout.splitlines()}

    @unittest.skipUnless(PLUGIN.exists(), "built without espeak-ng")
    def test_espeak_speaks_a_text_and_a_file(self):
        done = self.run_program("--tts", "Hello there. I speak.", "--voice", "en-gb")
        self.assertEqual(done.returncode, 0, done.stderr)
        seconds = self.seconds_of("portrait_tts.mp4")
        self.assertGreater(seconds["audio"], 1)
        self.assertAlmostEqual(seconds["audio"], seconds["video"], delta=0.6)
        (self.path / "text.txt").write_text("Guten Tag.\nWie geht es?\n")
        done = self.run_program("--tts_file", "text.txt", "--voice", "de", "--save_file", "x.mp4", "--quiet")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertGreater(self.seconds_of("x.mp4")["audio"], 1)
        for name in ("xx", "f3", "alloy", "en+zz", "mb-de3"):  # of variants alone the library crashes
            self.assertIn(f'no voice "{name}"', self.error("--tts", "a", "--voice", name))

    def test_another_server_speaks(self):
        with StandIn(key="key-7") as stand_in:
            text = "This takes about a second and a half, more or less."
            for format in ("wav", "pcm"):
                done = self.run_program("--tts", text, "--speech_url", stand_in.url, "--voice", "nova", "--save_file",
                                        format + ".mp4", "--speech_format", format, LIVEAVATAR_SPEECH_KEY="key-7")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertAlmostEqual(self.seconds_of(format + ".mp4")["audio"], len(text) * 0.03, delta=0.6)
            self.assertEqual({(a["voice"], a["model"]) for a in stand_in.sent("/v1/audio/speech")}, {("nova", "tts-1")})
            (self.path / "key").write_text("wrong-key\n")
            line = self.error("--tts", "Hello.", "--speech_url", stand_in.url, "--speech_key_file", "key")
            self.assertIn("answered 401", line)
            self.assertNotIn("wrong-key", line)
        with StandIn(key="KEEP") as stand_in:  # a key that is a part of what stands for it
            line = self.error("--tts", "Hello.", "--speech_url", stand_in.url, LIVEAVATAR_SPEECH_KEY="K")
            self.assertIn("API key: KEYEEP", line)

    def test_errors_are_one_line(self):
        with StandIn() as stand_in:
            url = ("--speech_url", stand_in.url.replace("http://", "http://user:secret@"))
            for text, words in (("FAIL", "answered 500: out of luck"), ("GARBAGE", "no WAV"), ("HUGE", "WAV"),
                                ("ELSEWHERE", "points elsewhere")):
                line = self.error("--tts", text, *url)
                self.assertIn(words, line)
                self.assertIn("--speech_url http://127.0.0.1", line)
                self.assertNotIn("secret", line)
        self.assertIn("connect", self.error("--tts", "a", "--speech_url", "http://127.0.0.1:9"))
        for flags, words in ((("--tts", ""), "empty"), (("--tts", "a", "--audio", VOICE), "--audio"),
                             (("--tts", "a", "--tts_file", "b"), "one of them"), (("--tts", "..."), "nothing to speak"),
                             (("--tts_file", "absent.txt"), "there is no such file"), (("--voice", "en"), "--tts TEXT"),
                             (("--tts", "a", "--speech_url", "file:///etc/passwd"), "http://"),
                             (("--tts", "a", "--speech_key_file", "k"), "--speech_url"), ((), "--tts TEXT")):
            self.assertIn(words, self.error(*flags))

    def test_without_espeak_it_says_what_to_install(self):
        program = self.path / "bin" / "liveavatar"
        program.parent.mkdir()
        shutil.copy(PROGRAM, program)
        line = self.error("--tts", "Hello.", program=program)
        self.assertIn("install libespeak-ng-dev", line)
        self.assertIn("--speech_url", line)

    def test_ctrl_c_ends_it_at_once(self):
        with StandIn() as stand_in:
            command = [PROGRAM, "generate", "--image", PORTRAIT, "--tts", "HANG", "--speech_url", stand_in.url]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=self.path,
                                       env={**os.environ, "TMPDIR": str(self.path)})
            while not stand_in.open:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            begin = time.monotonic()
            self.assertEqual(process.wait(30), 130)
            self.assertLess(time.monotonic() - begin, 5)
            process.stderr.close()


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
