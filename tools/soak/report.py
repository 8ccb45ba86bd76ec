#!/usr/bin/env python3
"""report.py FOLDER [PLOT]: what video.py and server.py measured, as a table; PLOT.svg: drawn. Exit code 1: not flat."""
import json
import sys
from pathlib import Path

FRAME_MS = 40
FLAT_FROM = 0.5  # of a video: its heap has all its holes by then
WARM_S = 300   # of a server
WIDTH, HEIGHT, LEFT, TOP = 640, 200, 60, 30


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kinds(lines, kind):
    return [line for line in lines if line["kind"] == kind]


def spread(samples, name):
    """-> (least, most)"""
    values = [s[name] for s in samples]
    return min(values), max(values)


def check(rows, name, text, good):
    rows.append((name, text, "yes" if good else "NO"))


def check_process(rows, samples, memory_limit=0.01):
    least, most = spread(samples, "rss_anon_kib")
    check(rows, "memory", f"{least:,} to {most:,} KiB", most <= least * (1 + memory_limit))
    for name in ("fds", "threads"):
        low, high = spread(samples, name)
        check(rows, name, f"{low} to {high}", low == high)


def judge_video(lines):
    run, end, samples = kinds(lines, "run")[0], kinds(lines, "end")[0], kinds(lines, "sample")
    rows = []
    check_process(rows, [s for s in samples if s["video_s"] >= FLAT_FROM * run["seconds"]])
    report, picture = end["report"], end["picture"]
    planned, held = report["predicted_peak_bytes"], report["measured_peak_bytes"]
    check(rows, "peak against plan", f"{held / 2**20:.1f} of {planned / 2**20:.1f} MiB", held <= planned)
    check(rows, "frames", f"{picture['frames']:,}", picture["frames"] == run["seconds"] * 25)
    check(rows, "sound's end against picture's", f"{picture['offset_ms']} ms", abs(picture["offset_ms"]) < FRAME_MS)
    each = picture["identity_each_minute"]
    ten = min(10, len(each) // 2)
    ratio = (sum(each[-ten:]) / ten) / (sum(each[:ten]) / ten)
    check(rows, f"identity, last {ten} minutes to first", f"{ratio:.3f}", ratio <= 1.2)
    return rows


def judge_server(lines):
    assert kinds(lines, "end"), "the server's run was broken off"
    resting = [s for s in kinds(lines, "resting") if s["t_s"] >= WARM_S] or kinds(lines, "resting")[-2:]
    rows = []
    check_process(rows, resting)
    last = resting[-1]
    check(rows, "visitors", f"{last['sessions']} sessions ({last['resets']} reset), {last['jobs']} jobs", True)
    return rows


def curve(points, top, title):
    """points: (seconds, MiB)"""
    last, most = points[-1][0], 1.25 * max(y for _, y in points)
    at = [(LEFT + x / last * (WIDTH - LEFT - 10), top + HEIGHT * (1 - y / most)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return (f'<text x="{LEFT}" y="{top - 8}">{title}</text>'
            f'<path d="M{LEFT},{top}V{top + HEIGHT}H{WIDTH - 10}" fill="none" stroke="#888"/>'
            f'<text x="4" y="{top + 10}">{most:.0f} MiB</text><text x="4" y="{top + HEIGHT}">0</text>'
            f'<text x="{WIDTH - 70}" y="{top + HEIGHT + 16}">{last:,.0f} s</text>'
            f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="1.5"/>')


def draw(file, video, server):
    parts, top = [], TOP
    for lines, x, title in ((video, "video_s", "one video: memory of its own, against seconds of video"),
                            (server, "t_s", "a server: the same, against time; low points are moments of rest")):
        points = [(s[x], s["rss_anon_kib"] / 1024) for s in lines if s["kind"] in ("sample", "resting")]
        if points:
            parts.append(curve(points, top, title))
            top += HEIGHT + 60
    file.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" font-family="sans-serif" '
                    f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n')


def main():
    folder = Path(sys.argv[1])
    flat = True
    runs = {"video": read(folder / "video.jsonl"), "server": read(folder / "server.jsonl")}
    for name, judge in (("video", judge_video), ("server", judge_server)):
        if not runs[name]:
            continue
        print(f"| {name} | measured | flat |\n| --- | --- | --- |")
        for what, text, good in judge(runs[name]):
            print(f"| {what} | {text} | {good} |")
            flat &= good == "yes"
        print()
    if len(sys.argv) > 2:
        draw(Path(sys.argv[2]), runs["video"], runs["server"])
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
