"""Servers that take a stream and record it, and what is in a recording."""
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

NGINX_RTMP = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
KEY = "k3y-th4t-is-secret"
PATIENCE_S = 60  # of anything that must happen; a loaded machine is slow


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"did not happen in {patience_s} s: {what}")


def listens(port):
    """Whether somebody listens at a TCP port: looked up, since a connection would be taken for the stream."""
    wanted = f"{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(":" + wanted) and line.split()[3] == "0A" for line in lines)


def is_bound(port):
    """The same of UDP."""
    wanted = f"{port:04X}"
    return any(line.split()[1].endswith(":" + wanted) for line in Path("/proc/net/udp").read_text().splitlines()[1:])


class Receiver:
    """A program that records; as a context it is killed at the end."""

    def __init__(self, command, ready):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_until(f"{command[0]} listens", lambda: ready() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def finish(self):
        """Waits until the stream has ended and is recorded."""
        self.process.wait(PATIENCE_S)


class FfmpegRtmp(Receiver):
    """Takes one stream."""

    def __init__(self, folder, port=None, name="rtmp"):
        self.port = port or free_port()
        self.file = Path(folder) / f"{name}.nut"
        self.url = f"rtmp://127.0.0.1:{self.port}/live/{KEY}"
        super().__init__(["ffmpeg", "-y", "-loglevel", "error", "-listen", 1, "-i", self.url, "-c", "copy",
                          "-flush_packets", 1, self.file], lambda: listens(self.port))


class NginxRtmp(Receiver):
    """Takes any number of streams; the last one is in `file`."""

    def __init__(self, folder):
        self.port = free_port()
        self.folder = Path(folder)
        self.file = self.folder / f"{KEY}.flv"
        self.url = f"rtmp://127.0.0.1:{self.port}/live/{KEY}"
        config = self.folder / "nginx.conf"
        config.write_text(f"""load_module {NGINX_RTMP};
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{self.port};
  application live {{ live on; record all; record_path {folder}; record_suffix .flv; }} }} }}
""")
        super().__init__([find_nginx(), "-p", folder, "-c", config, "-e", f"{folder}/nginx.log"],
                         lambda: listens(self.port))

    def finish(self):
        """nginx stays; its recording is complete when nothing is connected any more."""
        def is_over():
            wanted = f":{self.port:04X}"
            lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
            return not any(line.split()[1].endswith(wanted) and line.split()[3] == "01" for line in lines)
        wait_until("the stream ends", lambda: self.file.exists() and is_over())
        time.sleep(0.2)


def find_nginx():
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")


def has_nginx_rtmp():
    return find_nginx() is not None and NGINX_RTMP.exists()


class FfmpegSrt(Receiver):
    """Takes one stream."""

    def __init__(self, folder, port=None, name="srt"):
        self.port = port or free_port(socket.SOCK_DGRAM)
        self.file = Path(folder) / f"{name}.ts"
        self.url = f"srt://127.0.0.1:{self.port}"
        super().__init__(["ffmpeg", "-y", "-loglevel", "error", "-i", f"{self.url}?mode=listener", "-c", "copy",
                          "-flush_packets", 1,
                          "-f", "mpegts", self.file], lambda: is_bound(self.port))


def has_srt():
    protocols = subprocess.run(["ffmpeg", "-loglevel", "quiet", "-protocols"], capture_output=True, text=True).stdout
    return "srt" in protocols.split()


class SilentServer:
    """Accepts and never reads."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(8)
        self.port = self.socket.getsockname()[1]
        self.url = f"rtmp://127.0.0.1:{self.port}/live/{KEY}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class Recording:
    """Packets of a file or playlist, and where its sound begins to be heard."""

    def __init__(self, file):
        self.file = file
        shown = subprocess.run(["ffprobe", "-loglevel", "error", "-show_entries",
                                "stream=index,codec_name,codec_type:packet=stream_index,pts_time,duration_time,flags",
                                "-of", "json", str(file)], capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        content = json.loads(shown.stdout)
        kinds = {stream["index"]: stream["codec_type"] for stream in content["streams"]}
        self.codecs = {stream["codec_type"]: stream["codec_name"] for stream in content["streams"]}
        self.times = {"video": [], "audio": []}
        self.keys = []
        for packet in content["packets"]:
            kind = kinds[packet["stream_index"]]
            self.times[kind].append(float(packet["pts_time"]))
            if kind == "video" and packet["flags"].startswith("K"):
                self.keys.append(float(packet["pts_time"]))
        self.frames = len(self.times["video"])

    def seconds(self, kind):
        return max(self.times[kind]) - min(self.times[kind])

    def decoded_frames(self):
        """Those that a decoder gives without an error."""
        done = subprocess.run(["ffmpeg", "-loglevel", "error", "-i", str(self.file), "-map", "0:v", "-fps_mode",
                               "passthrough", "-f", "framecrc", "-"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return sum(not line.startswith("#") for line in done.stdout.splitlines())

    def onset_s(self, rate=48000):
        """When the first loud sample is heard, in the time of the picture."""
        done = subprocess.run(["ffmpeg", "-loglevel", "quiet", "-i", str(self.file), "-map", "0:a", "-ac", "1", "-ar",
                               str(rate), "-f", "s16le", "-"], capture_output=True)
        samples = memoryview(done.stdout).cast("h")
        first = next(i for i, value in enumerate(samples) if abs(value) > 6000)
        return min(self.times["audio"]) + first / rate - min(self.times["video"])


def has_secret(text):
    return KEY in text


def environment(**more):
    return {**os.environ, **more}
