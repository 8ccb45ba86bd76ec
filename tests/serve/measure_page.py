#!/usr/bin/env python3
"""measure_page.py PROGRAM [SIZE [STARTS [SECONDS]]]: how soon the page of `liveavatar serve` shows the portrait, and
how far behind the newest frame it is. Chromium plays the voice of assets/demo as its microphone."""
import sys
import time

from client import VOICE, Server
from page import Page

# Once a frame that is shown: what lies ahead of it, in ms.
WATCH = """(() => {
  const video = document.getElementById('video');
  window.behind = [];
  const shown = (_, {mediaTime}) => {
    window.behind.push(1000 * (video.buffered.end(video.buffered.length - 1) - mediaTime));
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
})()"""


def quantiles(values):
    values = sorted(values)
    at = [values[min(len(values) - 1, int(len(values) * part))] for part in (0.5, 0.95)]
    return f"p50 {at[0]:.0f}, p95 {at[1]:.0f} ms, of {len(values)}"


def measure(program, size="128*128", starts=5, seconds=30):
    first, speech = [], []
    with Server(program) as server, Page(server, microphone=VOICE) as page:
        page.allow_microphone()
        page.evaluate(f"document.getElementById('size').value = {size!r}")
        for turn in range(int(starts)):
            page.click("start")
            page.until_plays()
            first.append(float(page.reading("First").split()[0]))
            page.click("mic")
            page.until("document.getElementById('g-speech').textContent.includes('ms')")
            speech.append(float(page.text("g-speech").split()[0]))
            if turn == 0:
                page.evaluate(WATCH)
                time.sleep(float(seconds))
                behind = page.evaluate("window.behind")
                stops, gaps = (page.reading(name) for name in ("Stops", "Gaps"))
            page.click("stop")
            page.until("document.documentElement.dataset.live === 'idle'")
    print(f"size {size}\nfirst picture after the click: {quantiles(first)}\nbehind the newest frame: {quantiles(behind)}")
    print(f"from the microphone's sound to its picture: {quantiles(speech)}\nstops of playback: {stops}, gaps: {gaps}")


if __name__ == "__main__":
    measure(*sys.argv[1:])
