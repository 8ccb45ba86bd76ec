"""The page of a server in a browser, and what tests and measurements do with it."""
import os
import sys
from pathlib import Path

from browser import CHROMIUM, Browser
from client import VOICE, wait_until

# What the page sees of the picture and of the sound.
PICTURE = """(() => {
  const video = document.getElementById('video'), canvas = document.createElement('canvas');
  if (video.hidden || !video.videoWidth) return null;
  [canvas.width, canvas.height] = [32, 32];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 32, 32);
  return Array.from(context.getImageData(0, 0, 32, 32).data).filter((_, i) => i % 4 === 1);
})()"""
LISTEN = """(() => {
  const context = new AudioContext(), meter = context.createAnalyser();
  context.createMediaElementSource(document.getElementById('video')).connect(meter).connect(context.destination);
  const sound = new Float32Array(meter.fftSize);
  window.loudest = 0;
  setInterval(() => {
    meter.getFloatTimeDomainData(sound);
    window.loudest = Math.max(window.loudest, ...sound.map(Math.abs));
  }, 40);
})()"""


class Page(Browser):
    """The page of a server, ready unless told otherwise."""
    pictures = None  # folder for screenshots

    def __init__(self, server, *flags, before=None, ready=True, **options):
        super().__init__(*flags, **options)
        self.origin = f"http://127.0.0.1:{server.port}"
        self.open(self.origin + "/", f"{before or ''}; window.confirm = () => true;")
        if ready:
            self.until("!document.getElementById('start').disabled")

    def until_text(self, node, part):
        self.until(f"document.getElementById('{node}').textContent.includes({part!r})")

    def until_plays(self, seconds=1.0):
        self.until("!document.getElementById('video').hidden")
        start = self.evaluate("document.getElementById('video').currentTime")
        self.until(f"document.getElementById('video').currentTime > {start + seconds}")

    def choose_way(self, way):
        self.evaluate(f"document.querySelector('input[value={way}]').click()", as_user=True)

    def choose_voice(self):
        self.choose_way("file")
        self.choose_file("#voice", VOICE)

    def picture_moves(self):
        first = self.evaluate(PICTURE)

        def moved():
            now = self.evaluate(PICTURE)
            return now and first and sum(abs(a - b) for a, b in zip(now, first)) / len(first) > 0.5
        wait_until("the picture moves", moved)

    def reading(self, label):
        return self.evaluate(f"""[...document.querySelectorAll('#numbers div')]
          .find((n) => n.textContent.startsWith({label!r})).lastChild.textContent""")

    def take_picture(self, name):
        if pictures := Page.pictures:
            self.screenshot(Path(pictures) / f"{name}.png", whole=True)


def program_of_page_tests():
    """Of a test's arguments, PROGRAM [--pictures FOLDER] ..., which are taken. Without Chromium the test is skipped."""
    if CHROMIUM is None:
        print("skipped: there is no Chromium; apt-get install chromium")
        sys.exit(77)
    if "--pictures" in sys.argv:
        at = sys.argv.index("--pictures")
        Page.pictures = sys.argv[at + 1]
        os.makedirs(Page.pictures, exist_ok=True)
        del sys.argv[at:at + 2]
    return os.path.abspath(sys.argv.pop(1))
