"""Speech with its mouth: espeak-ng says seeded sentences, its phoneme events become a mouth track.

A seed gives the same sentences, voice and timing; the samples wobble a little, for espeak-ng's flutter goes on from call to call.

The mouth track has two numbers a frame (25 a second): opening, 0 closed to 1 wide open, and width, -1 round to 1 spread.
"""

import ctypes
import dataclasses
import functools

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

FPS, RATE, TRACK_RATE = 25, 16000, 200
COARTICULATION_S = 0.045  # standard deviation of the smoothing between neighbouring visemes

TRAIN_VOICES = tuple("en en-us en-gb-x-rp en-029 en-us-nyc de fr fr-ch es es-419 it pt pt-br nl pl sv da nb cs sk sl hu hr bs tr ca et lt lv id ms sw "
                     "la eo af cy sq is mt eu lb vi ht".split())
TRAIN_VARIANTS = ("", *("+" + name for name in "m1 m2 m3 m4 m6 m8 f1 f2 f3 Alex Alicia Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael "
                                              "Mike Storm adam anika antonio aunty belinda benjamin boris caleb david ed edward gustave iven john linda marcelo max "
                                              "michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph travis victor zac grandma grandpa klatt "
                                              "klatt2 klatt4 croak".split()))
HELD_VOICES = ("en-gb-scotland", "ro", "fi")
HELD_VARIANTS = ("+m5", "+m7", "+f4", "+f5")
WORDS = (
    "hello mama apple people moon river table window yellow purple happy mountain father open above because bubble water money "
    "market summer winter music party family animal banana potato coffee paper number follow remember maybe probably evening "
    "morning wonderful beautiful amazing europe island ocean shadow simple problem company member movie bottle pocket rabbit "
    "robot umbrella balloon thousand hundred seven we you they are have been going home now where what why how always never "
    "over under about away"
).split()
CONSONANTS, VOWELS = list("mpbfvtdnlskgrw"), ["a", "e", "i", "o", "u", "ai", "au", "oo"]

# First IPA characters of a group -> (opening, width).
_GROUPS = (
    ("aɑæɐʌäɶ", 1.0, 0.2), ("ɛeɜœø", 0.68, 0.4), ("ɔoɒ", 0.72, -0.7), ("iɪy", 0.38, 0.9), ("uʊwʉ", 0.28, -1.0),
    ("əɘɵ", 0.48, 0.0), ("mpb", 0.0, 0.1), ("fvʋβ", 0.10, 0.2), ("sztdnlθðrɾɲʎɹɬ", 0.24, 0.25), ("ʃʒɕʑ", 0.28, -0.5),
    ("kgŋhxɣqçʝcɡɟʔʁ", 0.34, 0.1), ("j", 0.30, 0.7),
)
VISEMES = {character: (opening, width) for group, opening, width in _GROUPS for character in group}
VISEME_CLASS = {character: 2 + i for i, (group, _, _) in enumerate(_GROUPS) for character in group}  # 0 silence, 1 unknown
VISEME_CLASSES = 2 + len(_GROUPS)
UNKNOWN_VISEME, SILENCE = (0.3, 0.0), (0.0, 0.0)


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int), ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int), ("sample", ctypes.c_int), ("user_data", ctypes.c_void_p), ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS_IN_IPA, _PHONEME_EVENT, _UTF8 = 2, 3, 7, 1
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3


class Espeak:
    """espeak-ng in this process (its library keeps global state: one instance a process, one thread)."""

    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(_SYNCHRONOUS, 500, None, _PHONEME_EVENTS_IN_IPA)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng found no voice data; install espeak-ng-data")
        self.callback = _CALLBACK(self._receive)
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(self, wave, count, events):
        if count > 0:
            self.parts.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type:
            if events[i].type == _PHONEME_EVENT:
                name = bytes(events[i].id.string).decode("utf8", "ignore").lstrip("ˈˌ")
                self.phonemes.append((events[i].sample / self.rate, name))
            i += 1
        return 0

    def say(self, text, voice, rate, pitch):
        """-> samples [n] f32 at 16 kHz, phonemes [(start in seconds, IPA)]."""
        self.parts, self.phonemes = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice}")
        self.library.espeak_SetParameter(_PARAMETER_RATE, int(rate), 0)
        self.library.espeak_SetParameter(_PARAMETER_PITCH, int(pitch), 0)
        raw = text.encode()
        self.library.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, _UTF8, None, None)
        self.library.espeak_Synchronize()
        wave = np.concatenate(self.parts).astype(np.float32) / 32768
        return resample_poly(wave, 320, self.rate * 320 // RATE).astype(np.float32), self.phonemes


@functools.lru_cache(1)
def espeak():
    """The process's synthesiser."""
    return Espeak()


def sentence(rng):
    """Half real words, half random syllables, so that every mouth movement comes up."""
    words = []
    for _ in range(rng.integers(3, 7)):
        if rng.random() < 0.5:
            words.append(str(rng.choice(WORDS)))
        else:
            words.append("".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.integers(1, 4))))
    return " ".join(words) + str(rng.choice([".", "!", "?", ","]))


def paint_visemes(track, at_s, phonemes, end_s):
    """Writes phonemes that start at_s into track [T, 3] at TRACK_RATE: opening, width, class.

    A diphthong's halves get a viseme each."""
    index = lambda t: int((at_s + t) * TRACK_RATE)
    ends = [t for t, _ in phonemes[1:]] + [end_s]
    for (start, name), end in zip(phonemes, ends):
        first = VISEMES.get(name[:1], UNKNOWN_VISEME) if name else SILENCE
        track[index(start):index(end)] = (*first, VISEME_CLASS.get(name[:1], 1) if name else 0)
        second = VISEMES.get(name[1:2], SILENCE)
        if name[:1] in tuple("aeoɔəʊɪ") and second[0] > 0.2:
            track[index((start + end) / 2):index(end)] = (*second, VISEME_CLASS[name[1]])


@dataclasses.dataclass
class Speech:
    """audio [n] f32 at 16 kHz; opening, width, speaking [frames] at 25 a second; visemes [8 * frames] at TRACK_RATE."""

    audio: np.ndarray
    opening: np.ndarray
    width: np.ndarray
    speaking: np.ndarray  # 1 while a sentence is being said, 0 in pauses
    visemes: np.ndarray  # classes, i64


def silence(frames):
    """Digital zeros and a closed mouth."""
    still = np.zeros(frames, np.float32)
    return Speech(np.zeros(frames * RATE // FPS, np.float32), still, still, still, np.zeros(8 * frames, np.int64))


def _colour(rng, audio):
    """Another microphone, another acoustic: a smooth filter of a few dB to either side."""
    points = np.geomspace(80, RATE / 2, 9)
    gains_db = np.interp(np.log(np.fft.rfftfreq(len(audio), 1 / RATE) + 1), np.log(points), rng.normal(0, 4, len(points)))
    return np.fft.irfft(np.fft.rfft(audio) * 10 ** (gains_db / 20), len(audio)).astype(np.float32)


def _music(rng, n):
    """A soft chord that changes twice a second."""
    t, out = np.arange(n) / RATE, np.zeros(n)
    for start in range(0, n, RATE // 2):
        part = slice(start, min(n, start + RATE // 2))
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        for ratio in (1, 1.26, 1.5):
            out[part] += np.sin(2 * np.pi * root * ratio * t[part])
    return out / 3


def _disturb(rng, audio):
    """Sometimes noise, sometimes music, well below the voice."""
    kind = rng.random()
    if kind < 0.3:
        return audio + rng.normal(0, 10 ** rng.uniform(-3.5, -2.2), len(audio)).astype(np.float32)
    if kind < 0.4:
        return audio + (10 ** rng.uniform(-2.5, -1.7) * _music(rng, len(audio))).astype(np.float32)
    return audio


def speech(rng, frames, held_out=False):
    """Sentences of one voice with pauses, `frames` frames long; begins in silence.

    held_out picks among voices, languages and variants that training never hears."""
    voices, variants = (HELD_VOICES, HELD_VARIANTS) if held_out else (TRAIN_VOICES, TRAIN_VARIANTS)
    voice = str(rng.choice(voices)) + str(rng.choice(variants))
    rate, pitch = rng.integers(110, 180), rng.integers(25, 75)
    n, seconds = frames * RATE // FPS, frames / FPS
    audio = np.zeros(n, np.float32)
    track = np.zeros((frames * TRACK_RATE // FPS, 3), np.float32)
    speaking = np.zeros(frames, np.float32)
    throat = 100 if held_out else int(rng.integers(85, 118))  # length, percent: lowers the voice and slows it as a slower tape would
    at = rng.uniform(0.05, 0.5) if rng.random() < 0.8 else rng.uniform(0.5, 1.5)
    while at < seconds - 0.15:
        wave, phonemes = espeak().say(sentence(rng), voice, rate, pitch)
        wave, phonemes = resample_poly(wave, throat, 100), [(start * throat / 100, name) for start, name in phonemes]
        first, length = int(at * RATE), len(wave) / RATE
        count = min(len(wave), n - first)
        audio[first:first + count] += wave[:count]
        paint_visemes(track, at, phonemes, length)
        speaking[int(at * FPS):int((at + length) * FPS)] = 1
        at += length + (rng.uniform(0.0, 0.3) if rng.random() < 0.6 else rng.uniform(0.4, 1.5))
    audio = audio if held_out or rng.random() < 0.3 else _colour(rng, audio)
    audio = _disturb(rng, audio * np.float32(rng.uniform(0.6, 1.2)))
    smooth = gaussian_filter1d(track[:, :2], TRACK_RATE * COARTICULATION_S, axis=0).reshape(frames, -1, 2).mean(1)
    return Speech(audio, smooth[:, 0], smooth[:, 1], speaking, track[:, 2].astype(np.int64))
