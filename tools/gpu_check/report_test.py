"""report_test.py GPU_CHECK PERFORMANCE_MD: `gpu-check --report` writes a card's figures into a copy of the page."""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT, PAGE = sys.argv[1], Path(sys.argv[2])


def results(card="NVIDIA Made Up, sm_90, 132 multiprocessors, 143771 MiB; own kernels: ...", layer_ms=4.0):
    return {
        "device": "cuda", "date": "2026-11-29", "card": card,
        "steps": {
            "card": {"exit_code": 0, "seconds": 0.1},
            "ops": {"exit_code": 1, "seconds": 9.0, "last_line": "2 FAILED TESTS"},
            "rates": {"exit_code": 0, "figures": {"attention.BF16 (Tflop/s)": 312.46, "layer_norm (GB/s)": 3017.2}},
            "layers": {"exit_code": 0, "figures": {"layer.BF16.704x384 (ms)": layer_ms}},
            "bench.4_layers.bf16.704x384": {"exit_code": 0, "figures": {
                "seconds_per_block (s)": 0.0512, "frames_per_second (frames/s)": 234.4,
                "charged_peak (bytes)": 3 << 30}},
            "sanitizer.memcheck": {"not_run": "no compute-sanitizer in PATH"},
            "copies": {"exit_code": 124, "cut_off": True},
        },
        "skipped_for_time": ["bench.8_layers.paged"],
        "against_torch": {"layer.BF16.704x384": {
            "unit": "ms", "ours": layer_ms, "torch": 3.0, "variant": "compiled", "ratio": 3.0 / layer_ms}},
    }


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.page = Path(self.folder.name) / "performance.md"
        self.page.write_text(PAGE.read_text())

    def report(self, content):
        source = Path(self.folder.name) / "gpu-check.json"
        source.write_text(content if isinstance(content, str) else json.dumps(content))
        return subprocess.run([SCRIPT, "--report", source, self.page], capture_output=True, text=True)

    def refused(self, content, reason):
        before = self.page.read_text()
        done = self.report(content)
        self.assertEqual(done.returncode, 1)
        self.assertIn(reason, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertEqual(self.page.read_text(), before)

    def test_the_figures_of_a_card_are_in_the_page(self):
        done = self.report(results())
        self.assertEqual(done.returncode, 0, done.stderr)
        text = self.page.read_text()
        for line in ["### NVIDIA Made Up, sm_90, 132 multiprocessors, 143771 MiB",
                     "| `layer.BF16.704x384` | 4 ms | 3 ms | 0.75 | compiled |",
                     "| `attention.BF16` | 312 Tflop/s |", "| `layer_norm` | 3020 GB/s |",
                     "| `4_layers.bf16.704x384` | 234 | 0.0512 | 3 |",
                     "* Failed: `ops` (exit code 1).",
                     "* Not run: `sanitizer.memcheck` (no compute-sanitizer in PATH), `copies` (cut off), "
                     "`bench.8_layers.paged` (no time)."]:
            self.assertIn(f"\n{line}\n", text)
        self.assertNotIn("No card has been measured", text)

    def test_what_stands_outside_of_the_marks_stays(self):
        self.report(results())
        old, new = PAGE.read_text(), self.page.read_text()
        begin, end = "<!-- gpu-check: begin -->", "<!-- gpu-check: end -->"
        self.assertEqual(new.split(begin)[0], old.split(begin)[0])
        self.assertEqual(new.split(end)[1], old.split(end)[1])

    def test_a_card_measured_again_replaces_its_own_section(self):
        other = "NVIDIA Other, sm_89, 58 multiprocessors, 22478 MiB; own kernels: ..."
        for card, milliseconds in ((results()["card"], 4.0), (other, 40.0), (results()["card"], 2.0)):
            self.assertEqual(self.report(results(card, milliseconds)).returncode, 0)
        text = self.page.read_text()
        self.assertEqual(text.count("### NVIDIA Made Up"), 1)
        self.assertEqual(text.count("### NVIDIA Other"), 1)
        self.assertIn("| 2 ms | 3 ms | 1.50 |", text)
        self.assertIn("| 40 ms | 3 ms | 0.07 |", text)
        self.assertNotIn("| `layer.BF16.704x384` | 4 ms | 3 ms |", text)

    def test_results_without_a_card_are_refused(self):
        self.refused({"device": "cuda", "steps": {"card": {"exit_code": 1}}}, "no card ran this check")
        self.refused(results() | {"device": "cuda-emulated"}, "of the emulated card")
        self.refused('{"device": "cu', "gpu-check.json: ")

    def test_a_page_without_marks_is_refused(self):
        self.page.write_text("# A page\n")
        self.refused(results(), "<!-- gpu-check: begin -->")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
