"""The mini model's file in 8 bits, written by tools/repack.py, makes the video of --weights_dtype, to the bit.

    repack_test.py LIVEAVATAR SOURCE_DIR
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

LIVEAVATAR, ROOT = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(ROOT / "tools"))

import repack

MINI = ROOT / "models/mini"


class Repack(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def checkpoint(self, convention):
        return repack.checkpoint(MINI, self.dir / convention, convention)

    def video(self, checkpoint, *flags):
        out = self.dir / "out.mp4"
        job = [LIVEAVATAR, "generate", "--ckpt_dir", checkpoint, "--image", ROOT / "assets/demo/portrait.png", "--audio", ROOT / "assets/demo/voice.wav",
               "--prompt", "hi", "--size", "128*128", "--num_clip", "1", "--infer_frames", "12", "--quiet", "--save_file", out, *flags]
        run = subprocess.run(job, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        return out.read_bytes()

    def test_codes_with_a_scale_a_row_are_the_engines_own(self):
        plain = self.video(MINI)
        for convention, dtype in (("int8_rows", "int8"), ("fp8_rows", "fp8")):
            own = self.video(MINI, "--weights_dtype", dtype)
            self.assertEqual(self.video(self.checkpoint(convention), "--weights_dtype", dtype), own, convention)
            self.assertNotEqual(own, plain)

    def test_a_convention_does_not_change_the_values(self):
        # The same codes and scales under two conventions.
        self.assertEqual(self.video(self.checkpoint("fp8_scaled")), self.video(self.checkpoint("fp8_comfy")))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
