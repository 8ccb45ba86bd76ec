"""Cartoon characters drawn with skia: a seed makes a character, a pose makes a frame.

All lengths are in units of the frame's side, so that any resolution shows the same picture, anti-aliased.
"""

import colorsys
import dataclasses
import math

import numpy as np
import skia
from PIL import Image, ImageFilter

SKINS = ((255, 224, 196), (244, 200, 160), (224, 172, 120), (190, 130, 85), (140, 92, 60), (100, 66, 46))
HAIR_HUES = {"brown": 0.07, "blond": 0.12, "red": 0.02, "pink": 0.88, "blue": 0.6, "green": 0.35}
HAIR_STYLES = ("short", "long", "round", "bun", "curly", "spiky", "bald")
BACKGROUNDS = ("plain", "halves", "stripes", "circle")
MOODS = ("neutral", "happy", "angry", "surprised")
MOUTH_Y, EYE_Y = 0.185, -0.02  # below the head's centre
SOFTNESS = 0.005  # of the lens: standard deviation of a point, in sides of the frame
WHITE, DARK_EYE, METAL, FRAME = (250, 250, 250), (15, 15, 20), (240, 210, 60), (40, 40, 50)


@dataclasses.dataclass
class Pose:
    """What moves. Angles in degrees, offsets in sides of the frame; the rest is 0..1 or -1..1. Zeros are the portrait."""

    opening: float = 0.0
    width: float = 0.0
    blink: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    happy: float = 0.0
    angry: float = 0.0
    surprised: float = 0.0


def _rgb(hue, saturation, value):
    clip = lambda x: min(max(x, 0.0), 1.0)
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, clip(saturation), clip(value)))


def _dark(color, factor=0.7):
    return tuple(int(v * factor) for v in color)


def _coin(rng, share):
    return bool(rng.random() < share)


def character(rng):
    """-> a dictionary of everything that does not move."""
    c = {"skin": tuple(int(v) for v in np.clip(np.add(SKINS[rng.integers(len(SKINS))], rng.integers(-10, 11, 3)), 0, 255))}
    if _coin(rng, 0.06):
        c["skin"] = _rgb(rng.random(), 0.35, 0.9)  # a green or blue fellow now and then
    c["hair_name"] = str(rng.choice(list(HAIR_HUES)))
    c["hair_color"] = _rgb(HAIR_HUES[c["hair_name"]], rng.uniform(0.45, 0.9), 0.9 if c["hair_name"] == "blond" else rng.uniform(0.25, 0.85))
    c["eye_color"] = _rgb(rng.choice([0.08, 0.33, 0.58, 0.5]), 0.6, rng.uniform(0.35, 0.8))
    c["hair"] = str(rng.choice(HAIR_STYLES))
    c["face_w"], c["face_h"], c["jaw"] = rng.uniform(0.25, 0.31), rng.uniform(0.33, 0.38), rng.uniform(0.6, 1.0)
    c["eye_r"], c["eye_gap"], c["brow"] = rng.uniform(0.045, 0.065), rng.uniform(0.105, 0.135), rng.uniform(0.015, 0.024)
    c["nose"] = int(rng.integers(3))
    c["mouth_w"], c["mouth_h"] = rng.uniform(0.105, 0.14), rng.uniform(0.14, 0.165)
    c["lip"] = _rgb(rng.uniform(-0.04, 0.03), rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.85))
    c["shirt"], c["shirt2"] = (_rgb(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95)) for _ in range(2))
    c["collar"] = str(rng.choice(["round", "pointed", "striped"]))
    c["glasses"], c["earring"], c["blush"], c["hat"] = _coin(rng, 0.25), _coin(rng, 0.2), _coin(rng, 0.3), _coin(rng, 0.15)
    c["background"] = str(rng.choice(BACKGROUNDS))
    c["bg1"], c["bg2"] = (_rgb(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.4, 1)) for _ in range(2))
    c["scale"], c["cx"], c["cy"] = rng.uniform(0.95, 1.18), 0.5 + rng.uniform(-0.04, 0.04), 0.47 + rng.uniform(-0.025, 0.025)
    return c


def _paint(color, stroke=0.0, alpha=255):
    paint = skia.Paint(AntiAlias=True, Color=skia.Color(*color, alpha))
    if stroke:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(stroke)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
    return paint


def _oval(x, y, rx, ry):
    return skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)


def _box(x, y, width, height):
    return skia.Rect.MakeXYWH(x, y, width, height)


def _path(start, *steps, close=True):
    """Steps of 2 numbers are lines, of 4 quadratic, of 6 cubic curves."""
    path = skia.Path()
    path.moveTo(*start)
    for step in steps:
        {2: path.lineTo, 4: path.quadTo, 6: path.cubicTo}[len(step)](*step)
    if close:
        path.close()
    return path


def _draw_background(canvas, c):
    canvas.drawRect(_box(0, 0, 1, 1), _paint(c["bg1"]))
    second = _paint(c["bg2"])
    if c["background"] == "halves":
        canvas.drawRect(_box(0, 0.55, 1, 0.45), second)
    elif c["background"] == "stripes":
        for i in range(3):
            canvas.drawRect(_box(i / 3, 0, 1 / 6, 1), second)
    elif c["background"] == "circle":
        canvas.drawOval(_oval(0.5, 0.45, 0.46, 0.46), second)


def _draw_body(canvas, c):
    neck = _paint(_dark(c["skin"], 0.85))
    canvas.drawRect(_box(-0.09, 0.2, 0.18, 0.3), neck)
    body = _path((-0.5, 0.75), (-0.48, 0.45, -0.25, 0.42, -0.1, 0.38), (0.1, 0.38), (0.25, 0.42, 0.48, 0.45, 0.5, 0.75))
    canvas.drawPath(body, _paint(c["shirt"]))
    if c["collar"] == "round":
        canvas.drawOval(_oval(0, 0.38, 0.11, 0.05), neck)
    elif c["collar"] == "pointed":
        for sign in (-1, 1):
            canvas.drawPath(_path((0, 0.46), (sign * 0.13, 0.36), (sign * 0.17, 0.45)), _paint(c["shirt2"]))
    else:
        canvas.drawRect(_box(-0.4, 0.47, 0.8, 0.045), _paint(c["shirt2"]))


def _draw_hair_behind(canvas, c):
    hair, width = _paint(c["hair_color"]), c["face_w"]
    if c["hair"] == "long":
        canvas.drawRoundRect(_box(-width - 0.06, -0.36, 2 * width + 0.12, 0.78), 0.22, 0.22, hair)
    elif c["hair"] == "round":
        canvas.drawOval(_oval(0, -0.12, width + 0.07, 0.30), hair)
    elif c["hair"] == "bun":
        canvas.drawOval(_oval(0, -0.40, 0.10, 0.09), hair)
    elif c["hair"] == "curly":
        for i in range(9):
            a = math.pi * (1 + i / 8)
            canvas.drawOval(_oval(math.cos(a) * (width + 0.01), -0.1 + math.sin(a) * 0.24, 0.08, 0.08), hair)


def _draw_face(canvas, c, pose):
    w, h, j, drop = c["face_w"], c["face_h"], c["jaw"], 0.035 * pose.opening
    for sign in (-1, 1):
        canvas.drawOval(_oval(sign * w, 0.01, 0.04, 0.055), _paint(_dark(c["skin"], 0.9)))
        if c["earring"]:
            canvas.drawOval(_oval(sign * (w + 0.01), 0.085, 0.018, 0.018), _paint(METAL))
    face = _path((-w, -0.02), (-w, -0.02 - h * 0.95, w, -0.02 - h * 0.95, w, -0.02), (w, 0.20 + drop * 0.5, w * j * 0.7, h + drop, 0, h + drop),
                 (-w * j * 0.7, h + drop, -w, 0.20 + drop * 0.5, -w, -0.02))
    canvas.drawPath(face, _paint(c["skin"]))
    if c["blush"]:
        for sign in (-1, 1):
            canvas.drawOval(_oval(sign * 0.17, 0.11, 0.045, 0.03), _paint((240, 120, 120), alpha=90))


def _draw_hair_before(canvas, c):
    hair, w = _paint(c["hair_color"]), c["face_w"]
    if c["hair"] == "spiky":
        spikes = [(-w + (i + part) * w / 3, y) for i in range(6) for part, y in ((0.5, -0.41 + 0.03 * abs(i - 2.5)), (1, -0.2 - 0.05 * (i < 5)))]
        canvas.drawPath(_path((-w, -0.08), *spikes, (w, -0.08), (w * 0.5, -0.2, -w * 0.5, -0.2, -w, -0.08)), hair)
    elif c["hair"] != "bald":
        top = -0.02 - c["face_h"] * 0.73
        low = {"short": -0.16, "long": -0.13, "round": -0.17, "bun": -0.2, "curly": -0.18}[c["hair"]]
        canvas.drawPath(_path((-w - 0.005, -0.06), (-w - 0.01, top - 0.06, w + 0.01, top - 0.06, w + 0.005, -0.06),
                              (w * 0.8, low, w * 0.2, low - 0.04, -w * 0.2, low), (-w * 0.5, low + 0.03, -w * 0.8, low, -w - 0.005, -0.06)), hair)
    if c["hat"]:
        hat = _paint(c["shirt2"])
        canvas.drawPath(_path((-w - 0.02, -0.17), (-w, -0.5, w, -0.5, w + 0.02, -0.17)), hat)
        canvas.drawRoundRect(_box(-w - 0.04, -0.2, 2 * w + 0.08, 0.06), 0.03, 0.03, _paint(_dark(c["shirt2"])))


def _draw_eyes(canvas, c, pose):
    r = c["eye_r"] * (1 + 0.12 * pose.surprised)
    for sign in (-1, 1):
        x, y = sign * c["eye_gap"], EYE_Y
        canvas.save()
        canvas.clipPath(skia.Path().addOval(_oval(x, y, r, r * 1.15)), doAntiAlias=True)
        canvas.drawRect(_box(x - r, y - 2 * r, 2 * r, 4 * r), _paint(WHITE))
        gx, gy = x + pose.gaze_x * r * 0.5, y + pose.gaze_y * r * 0.4
        canvas.drawOval(_oval(gx, gy, r * 0.6, r * 0.6), _paint(c["eye_color"]))
        canvas.drawOval(_oval(gx, gy, r * 0.32, r * 0.32), _paint(DARK_EYE))
        lid = max(pose.blink, 0.28 * pose.angry)
        canvas.drawRect(_box(x - r, y - 1.3 * r, 2 * r, 2.6 * r * lid), _paint(_dark(c["skin"], 0.88)))
        canvas.restore()
        if c["glasses"]:
            canvas.drawOval(_oval(x, y, r + 0.025, r + 0.025), _paint(FRAME, 0.014))
        _draw_brow(canvas, c, pose, sign, y - c["eye_r"] * 1.15 - 0.035)
    if c["glasses"]:
        inner = c["eye_gap"] - r - 0.025
        canvas.drawLine(-inner, EYE_Y, inner, EYE_Y, _paint(FRAME, 0.014))


def _draw_brow(canvas, c, pose, sign, y):
    y -= 0.035 * pose.surprised + 0.008 * pose.happy
    inner, outer = y + 0.008 + 0.034 * pose.angry, y + 0.008 - 0.016 * pose.angry
    arch = 0.026 + 0.02 * pose.surprised - 0.024 * pose.angry
    x = sign * c["eye_gap"]
    brow = _path((x - sign * 0.055, inner), (x, y - arch, x + sign * 0.055, outer), close=False)
    canvas.drawPath(brow, _paint(_dark(c["hair_color"], 0.75), c["brow"]))


def _draw_nose(canvas, c):
    paint = _paint(_dark(c["skin"], 0.75), 0.014)
    if c["nose"] == 0:
        canvas.drawPath(_path((-0.03, 0.085), (0, 0.115, 0.03, 0.085), close=False), paint)
    elif c["nose"] == 1:
        canvas.drawPath(_path((0.0, 0.02), (0.03, 0.09), (-0.01, 0.095), close=False), paint)
    else:
        canvas.drawOval(_oval(0, 0.085, 0.024, 0.02), _paint(_dark(c["skin"], 0.8)))


def _draw_mouth(canvas, c, pose):
    o, y = max(0.0, pose.opening), MOUTH_Y
    half = c["mouth_w"] * (1 + 0.22 * pose.width + 0.1 * pose.happy)
    up, down = 0.03 * o, c["mouth_h"] * 0.9 * o
    corner = y - 0.035 * pose.happy + 0.028 * pose.angry
    inside = _path((-half, corner), (-half * 0.6, y - up * 1.3, half * 0.6, y - up * 1.3, half, corner),
                   (half * 0.75, y + down * 1.3, -half * 0.75, y + down * 1.3, -half, corner))
    canvas.save()
    canvas.clipPath(inside, doAntiAlias=True)
    canvas.drawRect(_box(-0.3, y - 0.1, 0.6, 0.4), _paint((92, 18, 28)))
    canvas.drawOval(_oval(0, y + down * 1.05, half * 0.62, down * 0.38), _paint((226, 104, 110)))
    canvas.drawRect(_box(-half * 0.8, y - 0.1, half * 1.6, 0.12 - up * 0.98 + 0.012 * o), _paint((248, 246, 240)))
    canvas.restore()
    canvas.drawPath(inside, _paint(c["lip"], 0.018))


def draw(c, pose, size):
    """-> frame [size, size, 3] uint8 RGB."""
    pixels = np.zeros((size, size, 4), np.uint8)
    canvas = skia.Canvas(pixels)
    canvas.scale(size, size)
    _draw_background(canvas, c)
    canvas.translate(c["cx"], c["cy"])
    canvas.scale(c["scale"], c["scale"])
    canvas.save()
    canvas.translate(pose.dx * 0.4, pose.dy * 0.3)  # the body follows the head a little
    _draw_body(canvas, c)
    canvas.restore()
    canvas.translate(pose.dx, pose.dy)
    canvas.rotate(pose.turn, 0, 0.3)
    _draw_hair_behind(canvas, c)
    _draw_face(canvas, c, pose)
    _draw_hair_before(canvas, c)
    _draw_eyes(canvas, c, pose)
    _draw_nose(canvas, c)
    _draw_mouth(canvas, c, pose)
    bgra = skia.kN32_ColorType == skia.kBGRA_8888_ColorType
    rgb = pixels[..., 2::-1] if bgra else pixels[..., :3]
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).filter(ImageFilter.GaussianBlur(SOFTNESS * size)))
