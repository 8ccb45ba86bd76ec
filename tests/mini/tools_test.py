"""tools_test.py LIVEAVATAR SOURCE_DIR [CASE...]: the mini model's tools from nothing to a judged video, small and for seconds."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

PROGRAM, SOURCE = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
TOOLS = SOURCE / "tools/mini"
sys.path.insert(0, str(TOOLS))

import measure  # noqa: E402
import sentences  # noqa: E402
import speech  # noqa: E402
import world  # noqa: E402
from character import Pose, draw  # noqa: E402


class World(unittest.TestCase):
    def test_a_seed_is_a_scene(self):
        a, b, other = (world.scene(seed, 24, 64) for seed in (5, 5, 6))
        self.assertEqual(a.caption, b.caption)
        np.testing.assert_array_equal(a.frames, b.frames)
        loudness = [np.sqrt((x.audio.reshape(24, -1) ** 2).mean(1)) for x in (a, b)]  # espeak-ng's flutter goes on from call to call
        self.assertGreater(measure.correlation(*loudness), 0.9)
        self.assertTrue((a.still != other.still).any())

    def test_shapes_and_ranges(self):
        s = world.scene(1, 48, 96)
        self.assertEqual(s.frames.shape, (48, 96, 96, 3))
        self.assertEqual(len(s.audio), 48 * 640)
        self.assertEqual(s.targets.shape, (48, 4))
        self.assertTrue(0 <= s.opening.min() and 0.2 < s.opening.max() <= 1)

    def test_held_out_scenes_have_voices_of_their_own(self):
        self.assertFalse(set(speech.TRAIN_VOICES) & set(speech.HELD_VOICES))
        self.assertFalse(set(speech.TRAIN_VARIANTS) & set(speech.HELD_VARIANTS))
        self.assertTrue((world.scene(3, 8, 64).still != world.scene(3, 8, 64, held_out=True).still).any())

    def test_the_mouth_opens_while_the_voice_sounds(self):
        def agreement(s):
            return measure.correlation(s.opening, np.sqrt((s.audio.reshape(150, -1) ** 2).mean(1)))

        voices = [agreement(world.scene(seed, 150, 64, pixels=False)) for seed in range(8)]  # some with music
        self.assertGreater(np.mean(voices), 0.5, voices)

    def test_silence_is_silent(self):
        s = world.scene(2, 48, 64, pixels=False, silent=True)
        self.assertEqual(float(np.abs(s.audio).max()), 0)
        self.assertEqual(float(s.opening.max()), 0)

    def test_a_pose_changes_what_it_names(self):
        c = world.scene(4, 8, 128).character
        rest, open_mouth = draw(c, Pose(), 128).astype(int), draw(c, Pose(opening=1.0), 128).astype(int)
        rows = np.abs(rest - open_mouth).sum((1, 2))
        self.assertEqual(rows[:50].sum(), 0)
        self.assertGreater(rows[60:].sum(), 1000)


class Sentences(unittest.TestCase):
    def test_a_caption_says_its_mood_and_look(self):
        for seed in range(8):
            s = world.scene(seed, 8, pixels=False, silent=True)
            self.assertEqual(sentences.mood_and_look(s.caption), (s.mood, s.look), s.caption)

    def test_a_paraphrase_says_what_is_asked(self):
        rng = np.random.default_rng(0)
        texts = {sentences.paraphrase_of(rng, "angry", "to the left") for _ in range(20)}
        self.assertGreater(len(texts), 15)
        words = sentences.LOOK_WORDS["to the left"].split(",")
        self.assertTrue(all(any(word in text.lower() for word in words) for text in texts), texts)


class Measure(unittest.TestCase):
    def test_openings_are_read_off_true_frames(self):
        s = world.scene(7, 60, 128, held_out=True)

        class Nothing:
            encode = decode = staticmethod(lambda x: x)

        templates = measure.mouth_templates(Nothing(), s.character, s.mood, 128)
        self.assertGreater(measure.correlation(measure.openings(templates, s.frames, s.character), s.opening), 0.97)
        templates = measure.look_templates(Nothing(), s.character, 128)
        self.assertEqual(measure.mood_and_look(templates, s.frames[30:], s.character), (s.mood, s.look))

    def test_lag_is_found(self):
        truth = np.random.default_rng(0).random(100)
        self.assertAlmostEqual(measure.correlation(np.roll(truth, 2), truth, 2), 1, places=6)
        self.assertLess(measure.correlation(np.roll(truth, 2), truth, 0), 0.5)
        self.assertEqual(measure.correlation(np.zeros(100), truth), 0)


class Pipeline(unittest.TestCase):
    """Every training starts, goes on from its checkpoint, and what it leaves is a checkpoint folder that the engine runs."""

    def tool(self, name, *args):
        done = subprocess.run([sys.executable, TOOLS / name, *map(str, args)], cwd=self.work, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{name} {args}: {done.stderr[-2000:]}")
        return done.stdout

    def train_twice(self, name, *args):
        """The second run goes on where the first stopped."""
        for steps in ("1", "3"):
            last = re.findall(r"step (\d+)", self.tool(name, *args, "--steps", steps))[-1]
            self.assertEqual(last, steps, name)

    def test_from_nothing_to_a_judged_video(self):
        with tempfile.TemporaryDirectory() as folder:
            self.work = pathlib.Path(folder)
            self.train_twice("train_text.py")
            self.train_twice("train_audio.py", "--pool", 2, "--held", 2)
            self.train_twice("train_vae.py", "--pool", 8, "--held", 1, "--size", 64)
            self.tool("latents.py", "--shards", 2, "--scenes", 2, "--frames", 48, "--size", 64)
            self.train_twice("train_lips.py", "--batch", 2)
            self.train_twice("train_dit.py", "--batch", 2, "--window", 6, "--lips", "lips.pt")
            self.tool("export.py", self.work / "ckpt")
            subprocess.run([PROGRAM, "info", self.work / "ckpt"], check=True, stdout=subprocess.DEVNULL)
            self.tool("evaluate.py", "--ckpt", self.work / "ckpt", "--engine", PROGRAM, "--parts", "scenes", "--count", 2, "--frames", 36, "--size", 64, "--seed", 4,
                      "--json", "figures.json", "--sheet", "sheet.png")
            figures = json.loads((self.work / "figures.json").read_text())
            self.assertGreater(figures["mouth_ceiling_vae"], -1)
            self.assertEqual(len(figures["mouth_correlation_each"]), 2)
            self.assertGreater((self.work / "sheet.png").stat().st_size, 1000)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
