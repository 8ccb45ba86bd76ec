#!/usr/bin/env python3
"""messages_test.py: messages.py finds what it is there to find, in a small source tree."""
import tempfile
import unittest
from pathlib import Path

from messages import errors

TABLE = 'constexpr FieldFlag kFieldFlags[] = {\n    {"`online_decode` true", "--enable_online_decode"},\n    {"`size`", "--size"},\n};\n'


def found(text, path="src/low/low.cc"):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"src/cli/field_flags.cc": TABLE, path: text}.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return list(errors(Path(folder)))


class Messages(unittest.TestCase):
    def test_fields_and_comments_pass(self):
        self.assertEqual(found('// as --size "--size"\nf("`size` \\"" + s, "hf download --local-dir", "<!--", "a -- b");\n'), [])
        self.assertEqual(found('f("`online_decode` true", "run `liveavatar convert`");\n'), [])

    def test_flags_are_found(self):
        self.assertEqual(len(found('int a;\nf("take another --size, or");\n')), 1)
        self.assertTrue(found('int a;\nf("take another --size, or");\n')[0].startswith("src/low/low.cc:2: --size"))
        self.assertEqual(len(found('f("\\"--infer_frames");\n', "src/low/low.h")), 1)

    def test_unknown_fields_are_found(self):
        self.assertIn("`sizes`", found('f("choose a smaller `sizes`");\n')[0])

    def test_the_program_may_name_its_flags(self):
        self.assertEqual(found('f("--size");\n', "src/cli/main.cc"), [])


if __name__ == "__main__":
    unittest.main()
