"""What a run left, and what is wrong with it."""
import hashlib
import re
import subprocess
from dataclasses import dataclass, field

PARTIAL = ".liveavatar-partial"


@dataclass
class Outcome:
    code: int
    out: bytes
    lines: list  # of standard error
    files: dict  # name -> content, of the folder of the outputs
    hits: list = field(default_factory=list)  # of the fault
    counts: dict = field(default_factory=dict)
    hung: bool = False


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Frames:
    """What FFmpeg decodes of a video: a checksum for each frame, or an error. Each content once."""

    def __init__(self):
        self.known = {}

    def of(self, path, content):
        key = digest(content)
        if key not in self.known:
            self.known[key] = self.decode(path)
        return self.known[key]

    @staticmethod
    def decode(path):
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
        run = subprocess.run(command, capture_output=True, timeout=60, text=True)
        sums = [line.split(",")[-1].strip() for line in run.stdout.splitlines() if line and line[0] != "#"]
        return sums, run.stderr.strip() or ("" if run.returncode == 0 else "not decoded")


class Judge:
    """Compares an outcome with that of the job without a fault."""

    def __init__(self, job, clean, frames, folder):
        self.job, self.clean, self.frames = job, clean, frames
        self.good_frames = self.frames_of(clean, folder)

    def frames_of(self, outcome, folder):
        name = self.job.video
        if not name or name not in outcome.files:
            return None
        return self.frames.of(folder / name, outcome.files[name] + b"".join(
            content for file, content in sorted(outcome.files.items()) if file.endswith(".ts")))

    def problems(self, outcome, must_survive, folder):
        if outcome.hung:
            return ["hangs"]
        if outcome.code not in (0, 1):
            return [f"ends with {outcome.code}"]
        found = self.leftovers(outcome)
        if outcome.code == 0:
            return found + self.of_success(outcome, folder)
        if must_survive:
            found.append("fails for what must be survived")
        lines = outcome.lines or self.listed_problems(outcome)
        return found + self.of_lines(lines) + self.of_failure(outcome, folder)

    def listed_problems(self, outcome):
        """Of `info`, whose table says what is wrong with a file: the first, as a line of error."""
        problems = [line for line in outcome.out.decode().splitlines() if " PROBLEM " in line] if self.job.text else []
        return ["liveavatar: " + line for line in problems[:1]]

    def leftovers(self, outcome):
        found = [f"leaves {name}" for name in outcome.files if PARTIAL in name or re.search(r"liveavatar-\w{6}$", name)]
        strange = [name for name in outcome.files if name not in self.clean.files and PARTIAL not in name]
        return found + [f"leaves {name}" for name in strange if not re.search(r"liveavatar-\w{6}$", name)]

    @staticmethod
    def of_lines(lines):
        if len(lines) != 1:
            return [f"{len(lines)} lines of error"]
        found = []
        if not lines[0].startswith("liveavatar: "):
            found.append("an error of another form")
        if ";" not in lines[0]:
            found.append("an error that says not what to do")
        return found

    def of_success(self, outcome, folder):
        found = [f"prints with success: {line}" for line in outcome.lines[:1]]
        if self.job.text and outcome.out != self.clean.out:
            found.append("success with another text")
        for name in self.clean.files:
            if name not in outcome.files:
                found.append(f"success without {name}")
        for name in self.job.whole:
            if name in outcome.files and not self.is_whole(name, outcome.files[name]):
                found.append(f"success with a damaged {name}")
        if self.job.video in outcome.files and outcome.files != self.clean.files:
            if self.frames_of(outcome, folder) != self.good_frames:
                found.append("success with a damaged video")
        return found

    def of_failure(self, outcome, folder):
        found = []
        for name in self.job.whole:
            if name in outcome.files and not self.is_whole(name, outcome.files[name]):
                found.append(f"a failure leaves a part of {name}")
        name = self.job.video
        if name not in outcome.files:
            return found + ([f"a failure loses the older {name}"] if name in self.job.before else [])
        content = outcome.files[name]
        if name in self.job.before and content == self.job.before[name].encode():
            return found
        return found + self.of_part(outcome, folder)

    def of_part(self, outcome, folder):
        """A video up to what was flushed: its frames begin the whole one's, as many as the message says."""
        sums, error = self.frames_of(outcome, folder)
        if not outcome.files[self.job.video]:
            return ["a failure leaves an empty video"]
        if error:
            return [f"the video up to there does not play: {error.splitlines()[0]}"]
        said = re.search(r"the first (\d+) frames are safe", outcome.lines[0] if outcome.lines else "")
        if said and len(sums) < int(said.group(1)):
            return [f"{said.group(1)} frames are said to be safe, {len(sums)} play"]
        return [] if sums == self.good_frames[0][:len(sums)] else ["the video up to there has other frames"]

    def is_whole(self, name, content):
        if name.endswith(".json"):  # times and bytes differ
            return content.rstrip().endswith(b"}") and content.count(b"{") == content.count(b"}")
        return content == self.clean.files[name]
