"""The short jobs that the sweep runs, and the faults that each meets."""
import errno
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
MINI = SOURCE / "models/mini"
PORTRAIT = SOURCE / "assets/demo/portrait.png"
VOICE = SOURCE / "assets/demo/voice.wav"

# kind -> ways to fail. What ends in "!" must be survived: the job ends as if nothing had happened.
WAYS = {
    "open": [errno.EIO, f"{errno.EINTR}!"],
    "list": [errno.EIO],
    "read": [errno.EIO, f"{errno.EINTR}!", "short!", "end+"],
    "write": [errno.EIO, f"{errno.ENOSPC}+", f"{errno.EINTR}!", "short!"],
    "sync": [errno.EIO, f"{errno.EINTR}!"],
    "truncate": [errno.EIO, f"{errno.EINTR}!"],
    "reserve": [errno.ENOSPC, f"{errno.EOPNOTSUPP}!", f"{errno.EINTR}!"],
    "seek": [errno.EIO],
    "stat": [errno.EIO],
    "lock": [f"{errno.ENOLCK}!", f"{errno.EINTR}!"],
    "rename": [errno.EIO, errno.ENOSPC],
    "close": [errno.EIO],
    "map": [errno.ENOMEM, f"{errno.ENOMEM}+"],
    "memory": [errno.ENOMEM, f"{errno.ENOMEM}+"],
    "thread": [errno.EAGAIN, f"{errno.EAGAIN}+"],
    "clock": ["-86400+!", "86400+!"],
    "space": ["0"],
    "limit": [""],  # RLIMIT_FSIZE
}
WRITING = ["open", "write", "sync", "truncate", "reserve", "seek", "lock", "rename", "close", "space", "limit"]
READING = ["open", "list", "read", "seek", "stat", "close", "map", "memory"]


@dataclass
class Job:
    name: str
    arguments: list  # OUT stands for the folder of the outputs
    kinds: list
    video: str = ""  # in OUT
    whole: list = field(default_factory=list)  # files that are there whole or not at all
    before: dict = field(default_factory=dict)  # name -> content of a file that is there before
    text: bool = False  # standard output is the result

    def command(self, program, out):
        return [str(program)] + [str(part).replace("OUT", str(out)) for part in self.arguments]


GENERATE = ["generate", "--quiet", "--ckpt_dir", MINI, "--image", PORTRAIT, "--audio", VOICE, "--prompt", "hi",
            "--size", "64*64", "--num_clip", 1, "--infer_frames", 24, "--sample_steps", 2, "--threads", 2]
PAGED = ["--paging_dir", "OUT/pages", "--memory_budget", "70MiB", "--offload_kv_cache"]


def jobs():
    def generate(name, kinds, *more, video="video.mp4", **rest):
        flag = "--output" if video.endswith("m3u8") else "--save_file"
        return Job(name, GENERATE + [flag, "OUT/" + video, *more], kinds, video=video, **rest)

    return [
        generate("generate", list(WAYS), "--report", "OUT/report.json", whole=["report.json"]),
        generate("replace", WRITING, before={"video.mp4": "an older video\n"}),
        generate("mkv", WRITING, video="video.mkv"),
        generate("hls", WRITING + ["memory"], video="video.m3u8"),
        generate("paged", [kind for kind in WAYS if kind != "clock"], *PAGED, before={"pages/": ""}),
        Job("convert", ["convert", "--quiet", "--ckpt_dir", MINI, "--out", "OUT/model.packed"],
            [kind for kind in WAYS if kind != "clock"], whole=["model.packed"]),
        Job("plan", ["plan", "--ckpt_dir", MINI, "--image", PORTRAIT, "--audio", VOICE, "--size", "64*64"], READING,
            text=True),
        # Of a file whose first look failed it may show another name, which is no other result.
        Job("info", ["info", MINI], [kind for kind in READING if kind != "stat"], text=True),
    ]
