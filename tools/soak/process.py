"""What a process holds, by /proc."""
import contextlib
import json
import os
from pathlib import Path

MEMORY_KIB = {"RssAnon": "rss_anon_kib", "VmRSS": "rss_kib", "VmHWM": "peak_kib", "Threads": "threads"}


def field_kib(text, name):
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + ":"))


def sample(pid):
    """-> figures of this moment, or None where the process has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        status = (folder / "status").read_text()
        if "RssAnon:" not in status:  # a zombie
            return None
        figures = {key: field_kib(status, name) for name, key in MEMORY_KIB.items()}
        figures["pss_kib"] = field_kib((folder / "smaps_rollup").read_text(), "Pss")
        figures["fds"] = len(os.listdir(folder / "fd"))
        return figures
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


@contextlib.contextmanager
def records(file):
    """-> write(**fields), which adds a line of JSON to the file at once. Its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as lines:
        def write(**fields):
            lines.write(json.dumps(fields) + "\n")
            lines.flush()

        yield write
