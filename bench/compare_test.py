"""compare_test.py BUILD_DIR: compare_pytorch.py at small shapes, where both sides must agree."""

import importlib.util
import pathlib
import subprocess
import sys
import unittest

HERE, BUILD = pathlib.Path(__file__).resolve().parent, sys.argv[1]
sys.path.insert(0, str(HERE))

try:
    import torch  # noqa: E402
except ImportError:
    print("skipped: no PyTorch in " + sys.executable)
    sys.exit(77)

import compare_pytorch  # noqa: E402


def run(*flags):
    command = [sys.executable, str(HERE / "compare_pytorch.py"), "--build", BUILD, "--tiny", "--variants", "eager", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


class Compare(unittest.TestCase):
    def test_every_target_agrees(self):
        done = run("--check_only", "--dtype", "f32")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for target in compare_pytorch.TARGETS:
            self.assertIn(f"\n{target}: ", done.stdout)
        self.assertEqual(done.stdout.count("error "), done.stdout.count("  eager"))

    def test_a_ratio_comes_out(self):
        done = run("--only", "dit_1.3b", "--dtype", "f32", "--repeats", "1")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\ndit_1.3b +[0-9.]+ +0% +[0-9.]+ +0% +[0-9.]+ +[0-9]+%  eager\n")

    def test_int8_is_held_against_bf16(self):
        done = run("--only", "dit_1.3b", "--repeats", "1", "--int8")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\ndit_1.3b int8 +[0-9.]+ +0% +[0-9.]+ +0% +[0-9.]+ +[0-9]+%  the engine in bf16\n")

    @unittest.skipIf(importlib.util.find_spec("llama_cpp") is None, "llama-cpp-python is not there")
    def test_ggml_agrees(self):
        done = run("--only", "dit_1.3b", "--repeats", "1", "--ggml", "--int8")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("\n  ggml "), 6)  # of two types of weights and of q8_0, with two of keys
        self.assertRegex(done.stdout, r"\ndit_1.3b int8 .*  ggml q8_0, keys f")

    def test_a_small_difference_is_seen(self):
        want = torch.linspace(-1, 1, 1000)
        self.assertEqual(compare_pytorch.relative_error(want, want), 0)
        limit = compare_pytorch.TOLERANCE["f32"]
        self.assertGreater(compare_pytorch.relative_error(want * (1 + 2 * limit), want), limit)

    def test_a_wrong_name_is_one_line(self):
        done = run("--only", "dit_2b")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("'dit_2b' is none of dit_1.3b,", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
