#!/usr/bin/env python3
"""messages.py SOURCE_DIR: string literals of the library, that is src/ without src/cli.

Fails on a flag of the command line in one ("--size"), and on a field in backquotes ("`size`") that the table of
src/cli/field_flags.cc does not have.
"""
import re
import sys
from pathlib import Path

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
FLAG = re.compile(r"--[a-z][a-z0-9_-]*")
OTHERS_FLAGS = {"--local-dir", "--voices"}  # of the hub's own program and of espeak-ng
FIELD = re.compile(r"`([a-z0-9_]+)`")
ROW = re.compile(r'\{"`([a-z0-9_]+)`[^"]*", "--')


def literals(file):
    """-> (line number, text) of each string literal."""
    text = file.read_text()
    for match in TOKEN.finditer(text):
        if match[0].startswith('"'):
            yield text.count("\n", 0, match.start()) + 1, match[0]


def errors(source):
    known = set(ROW.findall((source / "src/cli/field_flags.cc").read_text()))
    for file in sorted(f for f in (source / "src").rglob("*") if f.suffix in {".cc", ".h", ".inl", ".inc"}):
        name = file.relative_to(source).as_posix()
        if name.startswith("src/cli/"):
            continue
        for number, text in literals(file):
            for flag in sorted(set(FLAG.findall(text)) - OTHERS_FLAGS):
                yield f"{name}:{number}: {flag} is of the command line; name the public field in backquotes"
            for field in sorted(set(FIELD.findall(text)) - known):
                yield f"{name}:{number}: `{field}` is not in the table of src/cli/field_flags.cc"


def main():
    found = list(errors(Path(sys.argv[1])))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
