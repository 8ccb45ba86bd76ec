#!/usr/bin/env python3
"""resume_test.py PROGRAM: `liveavatar generate --resume`: what was killed goes on, and ends as if nothing had been."""
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import wave
import zlib
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PROGRAM = None
PATIENCE_S = 60


def write_voice(file, seconds, first_s=0):
    """A part of the demo's voice."""
    with wave.open(str(SOURCE / "assets/demo/voice.wav")) as voice:
        rate = voice.getframerate()
        voice.setpos(int(first_s * rate))
        frames = voice.readframes(int(seconds * rate))
        with wave.open(str(file), "wb") as out:
            out.setparams(voice.getparams())
            out.writeframes(frames)


def write_mask(file, left):
    """A PNG of 64 x 64, white in one half."""
    row = b"\0" + bytes(255 if (x < 32) == left else 0 for x in range(64))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 64)) +
                     chunk(b"IEND", b""))


class Resume(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp())
        write_voice(cls.shared / "voice.wav", 4.7)
        write_voice(cls.shared / "other.wav", 4, 3)
        write_mask(cls.shared / "left.png", True)
        write_mask(cls.shared / "right.png", False)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    launcher = []

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.cut = self.folder / "cut.mp4"
        self.snapshots = self.folder / "cut.mp4.snapshots"

    def tearDown(self):
        shutil.rmtree(self.folder)

    def command(self, video, *flags, resume=("--resume", "--snapshot_every", "2")):
        voice = [] if "--audio" in flags else ["--audio", self.shared / "voice.wav"]
        output = [] if "--output" in flags else ["--save_file", video]
        line = [PROGRAM, "generate", "--image", SOURCE / "assets/demo/portrait.png", *voice, "--prompt", "hi",
                "--size", "64*64", "--threads", 2, *output, *resume, *flags]
        return [str(part) for part in self.launcher + line]

    def run_to_end(self, video, *flags, **more):
        return subprocess.run(self.command(video, *flags, **more), capture_output=True, text=True, timeout=PATIENCE_S)

    def whole(self, *flags):
        """-> the bytes of a video that was made without a break"""
        done = self.run_to_end(self.folder / "whole.mp4", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return (self.folder / "whole.mp4").read_bytes()

    def kill_after(self, count, *flags, sent=signal.SIGKILL):
        """Kills a run when `count` snapshots have been seen."""
        run = subprocess.Popen(self.command(self.cut, *flags), stderr=subprocess.DEVNULL)
        seen, until = set(), time.monotonic() + PATIENCE_S
        while len(seen) < count and run.poll() is None and time.monotonic() < until:
            seen |= set(self.snapshots.glob("*.snapshot"))
            time.sleep(0.001)
        ranks = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split() if self.launcher else []
        for pid in [*map(int, ranks), run.pid]:
            os.kill(pid, sent)
        run.wait()
        self.assertEqual(len(seen), count)

    def check_goes_on(self, whole, *flags):
        done = self.run_to_end(self.cut, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("goes on behind", done.stderr)
        self.assertTrue(self.cut.read_bytes() == whole, "not the video of an unbroken run")
        self.assertFalse(self.snapshots.exists())
        self.assertEqual([file.name for file in self.folder.glob("*partial*")], [])
        return done

    def check_flags(self, *flags, counts=(1, 3)):
        whole = self.whole(*flags)
        for count in counts:
            with self.subTest(snapshots=count):
                self.kill_after(count, *flags)
                self.check_goes_on(whole, *flags)
                self.cut.unlink()

    def test_goes_on_after_a_kill(self):
        self.check_flags(counts=(1, 2, 3, 4))

    def test_with_another_thread_that_decodes(self):
        self.check_flags("--decode_threads", "1")

    def test_with_several_blocks_in_flight(self):
        self.check_flags("--schedule", "wavefront", counts=(1, 2))

    def test_with_a_solver_that_remembers(self):
        self.check_flags("--schedule", "wavefront", "--sample_solver", "unipc", counts=(1, 2))

    def test_with_keys_and_values_in_8_bits(self):
        self.check_flags("--kv_dtype", "int8", "--schedule", "wavefront", counts=(1, 2))

    def test_with_keys_and_values_on_disk(self):
        (self.folder / "paging").mkdir()
        self.check_flags("--memory_budget", "73MiB", "--paging_dir", str(self.folder / "paging"),
                         "--offload_kv_cache", counts=(1, 2))

    def test_with_a_pose_video(self):
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-t", "3",
                        self.folder / "pose.mp4"], check=True)
        self.check_flags("--pose_video", str(self.folder / "pose.mp4"), "--infer_frames", "60")

    def test_with_two_speakers(self):
        self.check_flags("--audio", f"{self.shared}/voice.wav+{self.shared}/other.wav", "--mask",
                         str(self.shared / "left.png"), "--mask", str(self.shared / "right.png"), "--schedule",
                         "wavefront", counts=(1, 2))

    def test_on_two_stages(self):
        self.check_flags("--devices", "cpu:2", counts=(1, 2, 3))

    def test_on_three_stages_with_blocks_in_flight(self):
        self.check_flags("--devices", "cpu:3", "--schedule", "wavefront", "--infer_frames", "48", counts=(1, 2))

    def test_with_a_rank_for_the_vae(self):
        self.check_flags("--devices", "cpu:3", "--enable_vae_parallel", counts=(1, 2))

    def test_on_two_stages_with_another_thread_that_decodes(self):
        self.check_flags("--devices", "cpu:2", "--decode_threads", "1", counts=(1, 2))

    def test_on_devices_that_share_a_step(self):
        self.check_flags("--devices", "cpu:2", "--ulysses_size", "2", counts=(1, 2))

    def test_on_devices_in_every_way(self):
        self.check_flags("--devices", "cpu:5", "--num_gpus_dit", "4", "--ulysses_size", "2", "--enable_vae_parallel",
                         "--schedule", "wavefront", counts=(1, 2))

    def test_what_travels_with_the_blocks_in_flight(self):
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25", "-t", "3",
                        self.folder / "pose.mp4"], check=True)
        self.check_flags("--devices", "cpu:2", "--schedule", "wavefront", "--pose_video",
                         str(self.folder / "pose.mp4"), "--audio", f"{self.shared}/voice.wav+{self.shared}/other.wav",
                         "--mask", str(self.shared / "left.png"), "--mask", str(self.shared / "right.png"), counts=(2,))

    def test_with_layers_dealt_to_the_devices(self):
        self.check_flags("--devices", "cpu:2", "--dit_fsdp", counts=(2,))

    @unittest.skipUnless(shutil.which("mpirun"), "mpirun is not installed")
    def test_on_ranks_of_mpirun(self):
        self.launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "3"]
        self.check_flags("--schedule", "wavefront", counts=(1, 2))

    def test_the_parts_of_all_devices_or_none(self):
        flags = ("--devices", "cpu:3")
        whole = self.whole(*flags)
        self.kill_after(3, *flags)
        newest = max(self.snapshots.glob("*.snapshot"))
        part = newest.with_suffix(".rank-2")
        part.write_bytes(part.read_bytes()[:-1])
        done = self.check_goes_on(whole, *flags)
        self.assertIn(f"note: {part}", done.stderr)

    def test_a_device_that_cannot_keep_its_part_is_said(self):
        flags = ("--devices", "cpu:2", "--snapshot_every", "2")
        (self.snapshots / "block-000000004.rank-1" / "in the way").mkdir(parents=True)
        done = self.run_to_end(self.cut, *flags, resume=("--resume",))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("note: no snapshot was written: rank 1 (", done.stderr)

    def test_is_killed_again_and_again(self):
        whole = self.whole()
        for _ in range(3):
            self.kill_after(1 + len(list(self.snapshots.glob("*"))))
        self.check_goes_on(whole)

    def test_goes_on_after_ctrl_c(self):
        whole = self.whole()
        self.kill_after(2, sent=signal.SIGINT)
        self.check_goes_on(whole)

    def test_takes_the_snapshot_before_a_damaged_one(self):
        whole = self.whole()
        self.kill_after(3)
        newest = sorted(self.snapshots.glob("*.snapshot"))[-1]
        damaged = bytearray(newest.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        newest.write_bytes(damaged)
        done = self.check_goes_on(whole)
        self.assertIn(f"{newest.name}: is damaged", done.stderr)

    def test_takes_the_snapshot_before_a_torn_one(self):
        whole = self.whole()
        self.kill_after(3)
        newest = sorted(self.snapshots.glob("*.snapshot"))[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
        self.check_goes_on(whole)

    def test_refuses_a_snapshot_of_another_job(self):
        self.kill_after(2)
        before = self.cut.read_bytes()
        for flags, name in ((("--base_seed", "7"), "seed"), (("--sample_steps", "3"), "steps"),
                            (("--audio", str(self.shared / "other.wav")), "frames")):
            done = self.run_to_end(self.cut, *flags)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"is of another job, whose {name} is", done.stderr)
        self.assertTrue(self.cut.read_bytes() == before)

    def test_refuses_a_newer_snapshot(self):
        self.kill_after(2)
        newest = sorted(self.snapshots.glob("*.snapshot"))[-1]
        newest.write_bytes(b"LASNAP02" + newest.read_bytes()[8:])
        done = self.run_to_end(self.cut)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("is a snapshot of version 02", done.stderr)

    def test_a_whole_video_is_left_alone(self):
        whole = self.whole()
        shutil.copy(self.folder / "whole.mp4", self.cut)
        self.snapshots.mkdir()  # of a run that was killed while it removed them
        done = self.run_to_end(self.cut)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("is whole already", done.stderr)
        self.assertTrue(self.cut.read_bytes() == whole)
        self.assertFalse(self.snapshots.exists())

    def test_refuses_a_video_of_something_else(self):
        whole = self.whole("--base_seed", "7")
        shutil.copy(self.folder / "whole.mp4", self.cut)
        done = self.run_to_end(self.cut)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("is no video of this job", done.stderr)
        self.assertTrue(self.cut.read_bytes() == whole)

    def test_begins_anew_where_no_snapshot_was_written_yet(self):
        whole = self.whole()
        for sent in (signal.SIGKILL, signal.SIGINT):
            self.kill_after(1, sent=sent)
            for snapshot in self.snapshots.glob("*"):
                snapshot.unlink()
            done = self.run_to_end(self.cut)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(self.cut.read_bytes() == whole)
            self.cut.unlink()

    def test_keeps_as_many_as_are_asked_for(self):
        self.kill_after(3, "--keep_snapshots", "3")
        self.assertEqual(len(list(self.snapshots.glob("*.snapshot"))), 3)

    def test_info_says_what_a_snapshot_is_of(self):
        self.kill_after(1)
        snapshot = str(next(self.snapshots.glob("*.snapshot")))
        said = subprocess.run([PROGRAM, "info", snapshot], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(said.returncode, 0, said.stderr)
        for part in ("24 frames are done", "seed: 420", "size: 64x64", "every checksum is right"):
            self.assertIn(part, said.stdout)

    def test_what_cannot_be_resumed_is_said_at_once(self):
        for video, flags, part in (("a.mkv", (), "cannot be resumed"), ("a.m3u8", (), "cannot be resumed"),
                                   ("a.mp4", ("--output", "rtmp://host/app/KEY"), "a stream cannot be resumed"),
                                   ("a.mp4", ("--snapshot_every", "soon"), "is no time and no number of blocks"),
                                   ("a.mp4", ("--no_online_decode",), "online decode")):
            done = self.run_to_end(self.folder / video, *flags)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(part, done.stderr)
            self.assertNotIn("KEY", done.stderr)
            self.assertFalse((self.folder / video).exists())

    def test_frames_are_those_of_a_run_without_snapshots(self):
        self.whole()
        done = self.run_to_end(self.folder / "plain.mp4", resume=())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("64x64, 0:05 at 25 fps", done.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    if shutil.which("ffmpeg") is None:
        sys.exit(77)
    unittest.main(verbosity=1)
