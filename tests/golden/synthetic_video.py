"""Annotated videos for judging a tracker where no real ones are at hand, in the layout of DAVIS.

    pip install numpy pillow scikit-image
    python tests/golden/synthetic_video.py OUT
    samara eval OUT --video

Eight sequences of 40 frames at 480×320: parts of images of skimage.data (public domain or CC0), cut
out along wobbly shapes, move, turn and grow in front of other images, which pan. In `occluded` a bar
passes in front of the object, in `returns` the object leaves the frame and comes back; `crossing` and
`twins` have two objects. The same files come out on every run.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

WIDTH, HEIGHT, FRAMES = 480, 320, 40
SCALE = 3  # masks are drawn larger, so that their edges are smooth


def image(name):
    values = getattr(data, name)()
    return Image.fromarray(values).convert("RGB")


def palette():
    """The colours of PASCAL VOC and DAVIS."""
    colours = []
    for index in range(256):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
        colours += colour
    return colours


class Thing:
    """A cut-out: `texture` within a wobbly shape, `side` pixels wide."""

    def __init__(self, texture, box, side, seed, places, turn=0.0, grow=0.0):
        rng = np.random.default_rng(seed)
        self.texture = image(texture).crop(box).resize((side * SCALE, side * SCALE), Image.BICUBIC)
        v, u = np.mgrid[: side * SCALE, : side * SCALE] / (side * SCALE) * 2 - 1
        angle = np.arctan2(v, u)
        radius = 0.75 + sum(
            rng.uniform(0.03, 0.09) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)
        )
        self.shape = Image.fromarray((255 * (np.hypot(u, v) < radius)).astype(np.uint8))
        self.side, self.places, self.turn, self.grow = side, places, turn, grow

    def drawn(self, t):
        """The texture and the alpha of the whole frame at the time t, 0 to 1."""
        times = np.linspace(0, 1, len(self.places))
        x, y = (np.interp(t, times, [place[i] for place in self.places]) for i in (0, 1))
        side = round(self.side * (1 + self.grow * t))
        layers = []
        for layer, mode in ((self.texture, "RGB"), (self.shape, "L")):
            layer = layer.rotate(self.turn * t, Image.BICUBIC).resize((side, side), Image.LANCZOS)
            frame = Image.new(mode, (WIDTH, HEIGHT))
            frame.paste(layer, (round(x - side / 2), round(y - side / 2)))
            layers.append(np.asarray(frame, np.float32))
        return layers[0], layers[1] / 255


def background(name, t, blur, reach=(60, 30)):
    backdrop = image(name)
    width, height = WIDTH + reach[0], HEIGHT + reach[1]
    scale = max(width / backdrop.width, height / backdrop.height)
    size = (round(backdrop.width * scale), round(backdrop.height * scale))
    backdrop = backdrop.resize(size, Image.BICUBIC).filter(ImageFilter.GaussianBlur(blur))
    left, top = round(reach[0] * t), round(reach[1] * t)
    return np.asarray(backdrop.crop((left, top, left + WIDTH, top + HEIGHT)), np.float32)


def bar(t):
    """A grey bar from left to right, in front of everything."""
    left = round(np.interp(t, [0.15, 0.85], [-160, WIDTH]))
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    alpha[:, max(left, 0) : max(left + 150, 0)] = 1
    return np.full((HEIGHT, WIDTH, 3), 96, np.float32), alpha


CAT, FACE, CUP, EYE = (110, 20, 290, 200), (150, 30, 300, 180), (90, 60, 470, 400), (300, 300, 1100, 1100)
SEQUENCES = {
    "straight": ("coffee", 1, [Thing("chelsea", CAT, 120, 1, [(90, 160), (390, 170)])], False),
    "turning": ("rocket", 1, [Thing("astronaut", FACE, 130, 2, [(140, 110), (330, 210)], turn=80)], False),
    "growing": ("chelsea", 2, [Thing("coffee", CUP, 90, 3, [(200, 180), (280, 150)], grow=1.0)], False),
    "fast": ("astronaut", 1, [Thing("retina", EYE, 80, 4, [(60, 60), (420, 240), (80, 250), (400, 80)])], False),
    "crossing": ("immunohistochemistry", 1, [
        Thing("astronaut", FACE, 110, 5, [(80, 150), (400, 170)]),
        Thing("coffee", CUP, 110, 6, [(400, 150), (80, 180)]),
    ], False),
    "twins": ("coffee", 1, [
        Thing("chelsea", CAT, 100, 7, [(100, 90), (350, 90)]),
        Thing("chelsea", CAT, 100, 8, [(380, 230), (120, 230)]),
    ], False),
    "occluded": ("chelsea", 2, [Thing("astronaut", FACE, 110, 9, [(220, 150), (270, 180)])], True),
    "returns": ("rocket", 1, [Thing("chelsea", CAT, 110, 10, [(250, 160), (-80, 170), (-80, 150), (260, 150)])],
                False),
}


def sequence(backdrop, blur, things, occluded):
    """Frames and label maps."""
    for number in range(FRAMES):
        t = number / (FRAMES - 1)
        frame = background(backdrop, t, blur)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        layers = [(label, *thing.drawn(t)) for label, thing in enumerate(things, 1)]
        layers += [(0, *bar(t))] if occluded else []
        for label, colours, alpha in layers:
            frame = frame * (1 - alpha[..., None]) + colours * alpha[..., None]
            labels[alpha > 0.5] = label
        noise = np.random.default_rng(number).normal(0, 2, frame.shape)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8), labels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    out = parser.parse_args().out
    for name, content in SEQUENCES.items():
        frames, annotations = out / "JPEGImages/480p" / name, out / "Annotations/480p" / name
        frames.mkdir(parents=True, exist_ok=True)
        annotations.mkdir(parents=True, exist_ok=True)
        for number, (frame, labels) in enumerate(sequence(*content)):
            Image.fromarray(frame).save(frames / f"{number:05}.jpg", quality=92)
            labels = Image.fromarray(labels, "P")
            labels.putpalette(palette())
            labels.save(annotations / f"{number:05}.png")
    (out / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (out / "ImageSets/2017/val.txt").write_text("".join(f"{name}\n" for name in SEQUENCES))


if __name__ == "__main__":
    main()
