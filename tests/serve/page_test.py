#!/usr/bin/env python3
"""page_test.py PROGRAM [--pictures FOLDER]: the page of `liveavatar serve` in Chromium.

With a folder, screenshots are written there. Code 77, which ctest takes as skipped: there is no Chromium."""
import signal
import tempfile
import unittest

from client import PORTRAIT, VOICE, Server, WebSocket, form, wait_until
from page import LISTEN, Page, program_of_page_tests

PROGRAM = None
LONG = {"size": "64*64", "prompt": "a test", "sample_steps": "40"}

LOADING = """
const realFetch = window.fetch;
window.fetch = (path, options) => path === '/health' && !window.loaded ?
  Promise.resolve(new Response('{"status":"loading"}', {status: 503})) : realFetch(path, options);"""


class WithServer(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, *cls.flags)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log[-5:]

    def sessions(self):
        return self.server.json("/health")["sessions"]

    def until_sessions(self, count):
        wait_until(f"{count} sessions", lambda: self.sessions() == count)


class Looks(WithServer):
    def test_it_opens_without_errors_and_asks_nobody_else(self):
        with Page(self.server) as page:
            page.until("document.querySelector('#portraits img')?.naturalWidth > 0")
            urls = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
            self.assertGreater(len(urls), 10)
            self.assertEqual([url for url in urls if not url.startswith((page.origin, "blob:"))], [])
            self.assertEqual(page.errors(), [])
            self.assertEqual(page.text("model"), "mini")
            page.take_picture("light")

    def test_nothing_inline_runs(self):
        with Page(self.server) as page:
            page.evaluate("document.body.append(Object.assign(document.createElement('script'), "
                          "{textContent: 'window.inline = 1'}))")
            self.assertIsNone(page.evaluate("window.inline"))
            self.assertIn("Content Security Policy", " ".join(page.errors()))

    def test_every_control_has_a_name_for_a_screen_reader(self):
        with Page(self.server) as page:
            for way in ("talk", "file", "type", "converse"):
                page.choose_way(way)
                nodes = page.call("Accessibility.getFullAXTree")["nodes"]
                seen = {}
                for node in nodes:
                    role = node.get("role", {}).get("value")
                    if not node.get("ignored") and role in ("button", "textbox", "combobox", "radio", "meter"):
                        seen.setdefault(role, []).append(node.get("name", {}).get("value", ""))
                self.assertGreater(len(seen["button"]), 4)
                self.assertGreater(len(seen["radio"]), 3)
                self.assertEqual([role for role, names in seen.items() if "" in names], [], seen)
            live = page.evaluate("[...document.querySelectorAll('[role=status], [role=alert]')].map((n) => n.id)")
            self.assertLess({"status", "problem", "server", "mic-note"}, set(live))

    def test_it_is_used_by_keyboard_alone(self):
        with Page(self.server) as page:
            reached = []
            for _ in range(30):
                page.key("Tab", 9)
                reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
                if reached[-1] == "mic":
                    break
            for wanted in ("start", "portrait", "prompt", "size", "way", "mic"):
                self.assertIn(wanted, reached)
            self.assertNotEqual(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "none")

    def test_a_phone_and_the_dark_are_served(self):
        with Page(self.server) as page:
            light = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
            self.assertNotEqual(page.evaluate("getComputedStyle(document.body).backgroundColor"), light)
            moves = "getComputedStyle(document.querySelector('.meter span')).transitionDuration"
            self.assertEqual(page.evaluate(moves), "0s")
            page.take_picture("dark")
            page.size(360, 740, phone=True)
            self.assertEqual(page.evaluate("innerWidth"), 360)
            self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), 360)
            page.take_picture("phone_dark")
            page.prefer(prefers_color_scheme="light")
            self.assertEqual(page.evaluate("getComputedStyle(document.body).backgroundColor"), light)
            page.take_picture("phone")


class Live(WithServer):
    def test_a_sound_file_is_said_heard_and_interrupted(self):
        with Page(self.server) as page:
            page.click("start")
            page.until_plays()
            page.choose_voice()
            page.evaluate(LISTEN, as_user=True)
            page.click("speak")
            page.until_text("status", "speaks")
            page.picture_moves()
            page.until("window.loudest > 0.02")
            page.until("document.getElementById('g-speech').textContent.includes('ms')")
            page.take_picture("live")
            page.key("Escape", 27)
            page.until("document.getElementById('video').volume === 0", patience_s=0.3)
            page.until_text("status", "Interrupted after")
            page.until("document.getElementById('video').volume === 1")
            print("first picture, behind live, speech to picture:",
                  page.reading("First"), page.text("g-behind"), page.text("g-speech"))
            page.click("stop")
            page.until_text("status", "Stopped")
            self.until_sessions(0)
            page.until_text("server-text", "0 of 4")
            self.assertEqual(page.errors(), [])

    def test_what_was_missed_is_skipped(self):
        with Page(self.server) as page:
            page.click("start")
            page.until_plays(4)
            before = int(page.reading("Skips"))
            page.evaluate("document.getElementById('video').currentTime -= 3")
            wait_until("a skip", lambda: int(page.reading("Skips")) > before)
            page.until_plays()

    def test_a_microphone_is_repeated(self):
        with Page(self.server, microphone=VOICE) as page:
            page.allow_microphone()
            page.click("mic")
            page.until_plays()
            page.evaluate(LISTEN, as_user=True)
            page.until_text("status", "speaks")
            page.until("window.loudest > 0.02")
            page.picture_moves()
            page.click("mic")
            page.until_text("status", "listens")
            self.assertEqual(page.evaluate("document.getElementById('mic').ariaPressed"), "false")
            page.click("mic")
            page.until_text("status", "speaks")
            page.click("stop")
            page.until_text("mic-note", "off")
            self.assertEqual(page.errors(), [])

    def test_a_refused_microphone_is_told_and_opens_no_session(self):
        opened = self.server.metric("liveavatar_sessions_total")
        with Page(self.server) as page:
            page.allow_microphone(False)
            page.click("mic")
            page.until_text("mic-note", "not allowed")
            self.assertFalse(page.evaluate("document.getElementById('mic').disabled"))
            self.assertEqual(self.server.metric("liveavatar_sessions_total"), opened)
            page.take_picture("microphone_refused")

    def test_a_microphone_that_is_allowed_too_late_stays_off(self):
        before = """
          const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
          devices.getUserMedia = async (what) => {
            window.asked = true;
            await new Promise((resolve) => { window.allow = resolve; });
            return window.stream = await ask(what);
          };"""
        with Page(self.server, before=before, microphone=VOICE) as page:
            page.allow_microphone()
            page.click("start")
            page.until_plays()
            opened = self.server.metric("liveavatar_sessions_total")
            page.click("mic")
            page.until("window.asked")
            page.click("stop")
            self.until_sessions(0)
            page.evaluate("window.allow()")
            page.until("window.stream && window.stream.getTracks()[0].readyState === 'ended'")
            self.assertEqual(page.evaluate("document.documentElement.dataset.live"), "idle")
            self.assertEqual(self.server.metric("liveavatar_sessions_total"), opened)

    def test_an_own_image_talks_and_is_kept_by_name(self):
        with Page(self.server) as page:
            page.choose_file("#portrait-file", PORTRAIT)
            page.until("document.querySelectorAll('#portraits img').length === 2")
            page.click("start")
            page.until_plays()
            page.click("stop")
            page.evaluate("document.getElementById('keep-name').value = 'mine'")
            page.evaluate("document.getElementById('keep').requestSubmit()")
            page.until_text("portrait-note", "mine")
            self.assertIn("mine", [p["name"] for p in self.server.json("/v1/portraits")["data"]])
            page.until_text("forget", "mine")
            page.click("forget")
            page.until_text("portrait-note", "forgotten")
            self.assertEqual(self.server.get("/v1/portraits/mine")[0], 404)

    def test_files_are_dropped_anywhere(self):
        drop = """(async ([path, name, type]) => {
          const data = new DataTransfer();
          data.items.add(new File([await (await fetch(path)).blob()], name, {type}));
          document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
        })"""
        with Page(self.server) as page:
            page.evaluate(drop + "(['/v1/portraits/demo', 'me.png', 'image/png'])")
            page.until("document.querySelectorAll('#portraits img').length === 2")
            page.until("!document.getElementById('keep').hidden")
            page.evaluate(drop + "(['/v1/portraits/demo', 'voice.wav', 'audio/wav'])")
            page.until("!document.getElementById('make').disabled && !document.getElementById('way-file').hidden")

    def test_a_browser_without_media_source_is_told(self):
        before = "delete window.MediaSource; delete window.ManagedMediaSource;"
        with Page(self.server, before=before, ready=False) as page:
            page.until_text("problem", "Media Source Extensions")
            page.until_text("server-text", "Ready")
            self.assertTrue(page.evaluate("document.getElementById('start').disabled"))

    def test_sound_of_another_rate_keeps_its_pitch_and_loses_what_does_not_fit(self):
        script = """(async () => {
          const {Resampler} = await import('/resampler.js');
          const loudness = (from, to, hertz, wanted) => {
            const resampler = new Resampler(from, to), out = [];
            for (let at = 0; at < from; at += 128)
              out.push(...resampler.push(Float32Array.from({length: 128},
                (_, i) => Math.sin(2 * Math.PI * hertz * (at + i) / from))));
            let re = 0, im = 0;
            for (let i = 1000; i < to - 1000; ++i) {
              re += out[i] * Math.cos(2 * Math.PI * wanted * i / to);
              im += out[i] * Math.sin(2 * Math.PI * wanted * i / to);
            }
            return [2 * Math.hypot(re, im) / (to - 2000), out.length / to];
          };
          return [loudness(48000, 24000, 1000, 1000), loudness(44100, 24000, 1000, 1000),
                  loudness(16000, 24000, 1000, 1000), loudness(48000, 24000, 17000, 7000),
                  loudness(44100, 24000, 15000, 9000)];
        })()"""
        with Page(self.server) as page:
            *kept, first_alias, second_alias = page.evaluate(script)
        for gain, length in kept:
            self.assertAlmostEqual(gain, 1, delta=0.01)
            self.assertAlmostEqual(length, 1, delta=0.01)
        self.assertLess(first_alias[0], 0.003)
        self.assertLess(second_alias[0], 0.003)


class Jobs(WithServer):
    def test_a_sound_file_becomes_a_video_that_plays_and_is_deleted(self):
        with Page(self.server) as page:
            page.choose_voice()
            page.evaluate("document.getElementById('size').value = '64*64'")
            page.click("make")
            done = "#videos li[data-status=completed]"
            page.until(f"document.querySelector('{done}')")
            page.evaluate(f"document.querySelector('{done} button').click()", as_user=True)
            page.until("document.getElementById('player').open && "
                       "document.getElementById('player-video').currentTime > 0.5")
            page.click("player-close")
            page.until("document.querySelector('#videos video').readyState > 1")
            page.until("document.querySelector('#videos video').videoWidth === 64")
            page.take_picture("videos")
            page.evaluate(f"[...document.querySelectorAll('{done} button')].at(-1).click()")
            page.until(f"!document.querySelector('{done}')")
            self.assertNotIn("completed", [video["status"] for video in self.server.json("/v1/videos")["data"]])
            self.assertEqual(page.errors(), [])

    def test_a_wrong_file_is_told_in_the_server_s_words(self):
        with tempfile.NamedTemporaryFile(suffix=".wav") as noise, Page(self.server) as page:
            noise.write(b"no sound")
            noise.flush()
            page.choose_way("file")
            page.choose_file("#voice", noise.name)
            page.click("make")
            page.until("/audio/.test(document.getElementById('voice-note').textContent)")
            page.click("speak")
            page.until_text("voice-note", "cannot decode")

    def test_a_live_session_waits_for_a_job(self):
        files = {"image": PORTRAIT.read_bytes(), "audio": VOICE.read_bytes()}
        headers, body = form(files, LONG)
        self.assertEqual(self.server.request("POST", "/v1/videos", body, headers)[0], 202)
        wait_until("it runs", lambda: self.server.json("/health")["job_runs"])
        with Page(self.server) as page:
            page.until("document.querySelector('#videos li[data-status=running]')")
            page.click("start")
            page.until_text("problem", "makes a video now")
            page.take_picture("job_runs")
            page.evaluate("[...document.querySelectorAll('#videos button')].at(-1).click()")  # Cancel
            page.until("document.querySelector('#videos li[data-status=cancelled]')")
            wait_until("it has ended", lambda: not self.server.json("/health")["job_runs"])
            page.click("start")
            page.until_plays()


class Refusals(unittest.TestCase):
    def test_a_full_server_is_told_and_another_try_works(self):
        with Server(PROGRAM, "--max_sessions", 1) as server, Page(server) as page:
            other = WebSocket(server)
            page.click("start")
            page.until_text("problem", "Every live session of the server is taken (1 of 1)")
            page.take_picture("full")
            self.assertEqual(page.text("start"), "Try again")
            other.close()
            wait_until("it is free", lambda: server.json("/health")["sessions"] == 0)
            page.click("start")
            page.until_plays()
            self.assertEqual(page.text("problem"), "")

    def test_a_session_that_the_server_ends_has_its_reason(self):
        with Server(PROGRAM, "--session_lifetime_s", 2) as server, Page(server) as page:
            page.click("start")
            page.until_text("problem", "longest time")
            self.assertEqual(page.evaluate("document.documentElement.dataset.live"), "ended")

    def test_a_server_that_loads_is_told_and_waited_for(self):
        with Server(PROGRAM) as server, Page(server, before=LOADING, ready=False) as page:
            page.until_text("server-text", "loads its model")
            self.assertTrue(page.evaluate("document.getElementById('start').disabled"))
            page.evaluate("window.loaded = true")
            page.until("!document.getElementById('start').disabled")

    def test_a_key_is_asked_for(self):
        with Server(PROGRAM, env={"LIVEAVATAR_API_KEY": "secret-1"}) as server, Page(server, ready=False) as page:
            page.until("!document.getElementById('key-form').hidden")
            for key, until in (("wrong", "document.getElementById('key-hint').textContent.includes('refuses')"),
                               ("secret-1", "document.getElementById('key-form').hidden")):
                page.evaluate(f"document.getElementById('key').value = '{key}'")
                page.evaluate("document.getElementById('key-form').requestSubmit()")
                page.until(until)
            page.until("!document.getElementById('start').disabled")
            self.assertGreater(page.evaluate("document.getElementById('poster').naturalWidth"), 0)
            page.click("start")
            page.until_plays()

    def test_a_server_that_comes_back_is_found_again(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            first = Server(PROGRAM, "--drain_s", 0.2)
            with Page(first) as page:
                page.click("start")
                page.until_plays()
                first.process.send_signal(how)
                first.process.wait()
                page.until("document.documentElement.dataset.live === 'lost'")
                page.until_text("status", ". Trying again")
                with Server(PROGRAM, "--port", first.port) as second:
                    page.until("document.documentElement.dataset.live === 'live'")
                    page.until_plays()
                    self.assertEqual(second.json("/health")["sessions"], 1)
                    page.click("stop")
            first.stop()


if __name__ == "__main__":
    PROGRAM = program_of_page_tests()
    unittest.main(verbosity=2)
