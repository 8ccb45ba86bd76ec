#!/usr/bin/env python3
"""arrows_test.py: arrows.py finds what it is there to find, in a small source tree with one mistake at a time."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

FILES = {
    "src/low/low.h": "",
    "src/low/inner/inner.h": '#include "low/low.h"\n',
    "src/high/high.h": '#include "low/low.h"\n#include "liveavatar/api.h"\n',
    "src/high/high.cc": '#include "high/high.h"\n#include "low/inner/inner.h"\n',
    "include/liveavatar/api.h": '#include "liveavatar/status.h"\n',
}
ARROWS = ["module low low", "module inner low/inner", "module high high",
          "DEPS inner low", "DEPS high low", "PRIVATE_DEPS high inner"]


def check(files=None, arrows=ARROWS):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in {**FILES, **(files or {})}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "arrows.txt").write_text("\n".join(arrows) + "\n")
        script = Path(__file__).with_name("arrows.py")
        ran = subprocess.run([sys.executable, script, root, root / "arrows.txt"], capture_output=True, text=True)
        return ran.returncode, ran.stdout


class Arrows(unittest.TestCase):
    def fails(self, why, **mistake):
        code, out = check(**mistake)
        self.assertEqual(code, 1, out)
        self.assertIn(why, out)

    def test_what_is_declared_passes(self):
        code, out = check()
        self.assertEqual(code, 0, out)

    def test_undeclared(self):
        self.fails("src/low/low.cc:1: low includes high and does not declare it",
                   files={"src/low/low.cc": '#include "high/high.h"\n'})
        self.fails("src/high/high.cc:2: high includes inner", arrows=[a for a in ARROWS if "PRIVATE" not in a])

    def test_linked_only(self):
        self.fails("high includes inner", arrows=[a.replace("PRIVATE_DEPS", "LINKS") for a in ARROWS])

    def test_unused(self):
        self.fails("low declares inner in PRIVATE_DEPS and includes nothing", arrows=ARROWS + ["PRIVATE_DEPS low inner"])

    def test_headers_need_deps(self):
        self.fails("which belongs into DEPS", files={"src/high/more.h": '#include "low/inner/inner.h"\n'})
        self.fails("so it belongs into PRIVATE_DEPS", arrows=[a.replace("PRIVATE_DEPS", "DEPS") for a in ARROWS])

    def test_cycle(self):
        self.fails("a cycle: high -> inner -> low -> high", files={"src/low/low.h": '#include "high/high.h"\n'},
                   arrows=[*ARROWS, "DEPS low high"])
        self.fails("a cycle: high -> inner -> low -> high", arrows=[*ARROWS, "LINKS low high"])

    def test_no_module(self):
        self.fails("belongs to no module", files={"src/lost/lost.h": ""})
        self.fails('"low.h" is in no module', files={"src/low/low.cc": '#include "low.h"\n'})

    def test_public_headers_stand_alone(self):
        self.fails('a public header includes "low/low.h"', files={"include/liveavatar/api.h": '#include "low/low.h"\n'})


if __name__ == "__main__":
    unittest.main()
