"""Films that are no hand, or one that lies otherwise, made for a purpose: what a network should not answer silently.

Each function takes a usual film, uint8 (height, width), and a random stream, and gives another film, uint8.
"""

from collections.abc import Callable

import cv2
import numpy as np

Odd = Callable[[np.ndarray, np.random.Generator], np.ndarray]
HEIGHT, WIDTH = 400, 320  # px, of what is drawn from nothing


def _noise(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fine or coarse grains."""
    grain = int(rng.choice([1, 4, 16, 64]))
    small = rng.integers(0, 256, (HEIGHT // grain, WIDTH // grain)).astype(np.uint8)
    method = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_NEAREST
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=method)


def _shades(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film without an object: an even ground with a shade across it, dust, perhaps a bright edge."""
    y, x = np.mgrid[-1:1:HEIGHT * 1j, -1:1:WIDTH * 1j]
    grey = rng.uniform(20, 120) + rng.uniform(15, 60) * (x * rng.normal() + y * rng.normal())
    grey += rng.normal(0, 3, y.shape)
    if rng.random() < 0.5:
        grey[:, : int(rng.integers(5, 60))] = 250
    return _grey(grey)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _scene(rng: np.random.Generator) -> np.ndarray:
    """A table top or a wall behind a photographed film: shaded wood, cloth or paint, as grey."""
    y, x = np.mgrid[0:1:HEIGHT * 1j, 0:1:WIDTH * 1j]
    grain = cv2.resize(rng.normal(0, 1, (HEIGHT // int(rng.integers(4, 40)), 8)).astype(np.float32), (WIDTH, HEIGHT))
    return rng.uniform(60, 200) + rng.uniform(0, 25) * grain + 60 * (rng.normal() * x + rng.normal() * y) / 2


def _photograph(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A film on a light box or a screen, photographed from aside by a phone: perspective, surroundings, glare, blur."""
    scene = _scene(rng)
    corners = np.float32([[0.15, 0.15], [0.85, 0.15], [0.85, 0.85], [0.15, 0.85]]) * (WIDTH, HEIGHT)
    corners += rng.uniform(-0.12, 0.12, (4, 2)).astype(np.float32) * (WIDTH, HEIGHT)
    height, width = film.shape
    way = cv2.getPerspectiveTransform(np.float32([[0, 0], [width, 0], [width, height], [0, height]]),
                                      corners.astype(np.float32))
    lit = 30 + rng.uniform(0.5, 0.85) * film.astype(np.float32)
    inside = cv2.warpPerspective(np.ones_like(lit), way, (WIDTH, HEIGHT))
    picture = scene * (1 - inside) + cv2.warpPerspective(lit, way, (WIDTH, HEIGHT))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    middle, size = rng.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH), rng.uniform(20, 60)
    glare = np.exp(-(((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * size**2)))
    return _grey(cv2.GaussianBlur(picture + rng.uniform(60, 200) * glare, (0, 0), rng.uniform(0.5, 2)))


def _skin(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph of the hand itself: its outline, evenly lit, on a table; no bones."""
    height, width = film.shape
    soft = cv2.GaussianBlur(film, (0, 0), max(1.0, height / 60))
    level, _ = cv2.threshold(soft, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    hand = cv2.GaussianBlur((soft > 0.7 * level).astype(np.float32), (0, 0), max(1.0, height / 150))
    scene = cv2.resize(_scene(rng).astype(np.float32), (width, height))
    shade = cv2.GaussianBlur(hand, (0, 0), height / 25)
    return _grey(scene * (1 - hand) + hand * (rng.uniform(90, 160) + 70 * shade) + rng.normal(0, 3, film.shape))


class _Plate:
    """A radiograph to draw on: shadows of bones and flesh add up."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.shadow = rng, np.zeros((HEIGHT, WIDTH), np.float32)

    def bone(self, start: tuple[float, float], end: tuple[float, float], wide: float, weight: float = 70) -> None:
        """A shaft with thicker ends; places in shares of the plate, (x, y)."""
        layer = np.zeros_like(self.shadow)
        first, last = ((round(x * WIDTH), round(y * HEIGHT)) for x, y in (start, end))
        thick = max(1, round(wide * WIDTH))
        cv2.line(layer, first, last, 1.0, thick)
        for place in (first, last):
            cv2.circle(layer, place, round(0.7 * thick), 1.0, -1)
        core = cv2.erode(layer, np.ones((3, 3), np.uint8), iterations=max(1, thick // 5))
        self.shadow += weight * cv2.GaussianBlur(layer - 0.4 * core, (0, 0), 1.2)

    def flesh(self, corners: list[tuple[float, float]], weight: float = 40) -> None:
        layer = np.zeros_like(self.shadow)
        cv2.fillPoly(layer, [np.int32([(x * WIDTH, y * HEIGHT) for x, y in corners])], 1.0)
        self.shadow += weight * cv2.GaussianBlur(layer, (0, 0), 6)

    def film(self) -> np.ndarray:
        grey = self.rng.uniform(8, 40) + self.rng.uniform(0.8, 1.3) * self.shadow
        return _grey(grey + self.rng.normal(0, 3, grey.shape))


def _foot(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A foot from above: a long tarsus, five long parallel metatarsals, short toes."""
    plate, lean = _Plate(rng), rng.normal(0, 0.03)
    plate.flesh([(0.30, 0.95), (0.24, 0.55), (0.26, 0.12), (0.42, 0.05), (0.76, 0.22), (0.72, 0.6), (0.66, 0.95)])
    for toe, x in enumerate(np.linspace(0.34, 0.68, 5)):
        top = 0.30 + 0.025 * toe
        plate.bone((x, 0.58), (x + lean, top), 0.065 if toe == 0 else 0.04)
        plate.bone((x + lean, top - 0.04), (x + lean, top - 0.12), 0.055 if toe == 0 else 0.03)
        plate.bone((x + lean, top - 0.155), (x + lean, top - 0.19), 0.05 if toe == 0 else 0.025)
    for x, y in [(0.36, 0.65), (0.45, 0.65), (0.53, 0.66), (0.63, 0.68), (0.42, 0.74), (0.58, 0.77), (0.5, 0.87)]:
        plate.bone((x, y), (x + rng.normal(0, 0.01), y + 0.03), 0.11)
    return plate.film()


def _knee(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two long bones that meet, one thin beside: a knee or an elbow."""
    plate, x = _Plate(rng), rng.uniform(0.4, 0.6)
    plate.flesh([(x - 0.22, 0.0), (x + 0.22, 0.0), (x + 0.2, 1.0), (x - 0.2, 1.0)])
    plate.bone((x, -0.1), (x + rng.normal(0, 0.03), 0.42), 0.16, 90)
    plate.bone((x, 0.58), (x + rng.normal(0, 0.03), 1.1), 0.15, 90)
    plate.bone((x + 0.14, 0.66), (x + 0.13, 1.1), 0.05, 60)
    plate.bone((x - 0.08, 0.45), (x + 0.08, 0.45), 0.1, 50)
    return plate.film()


def _chest(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spine, heart and ribs."""
    plate = _Plate(rng)
    plate.flesh([(0.08, 0.1), (0.92, 0.1), (0.95, 1.0), (0.05, 1.0)], 70)
    plate.bone((0.5, -0.05), (0.5, 1.05), 0.1, 60)
    for y in np.linspace(0.15, 0.85, int(rng.integers(7, 11))):
        plate.bone((0.5, y), (0.14, y + 0.12), 0.03, 30)
        plate.bone((0.5, y), (0.86, y + 0.12), 0.03, 30)
    plate.flesh([(0.42, 0.45), (0.6, 0.45), (0.78, 0.78), (0.45, 0.8)], 60)
    return plate.film()


def _things(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keys, coins and tools: bright shapes of any kind on an even ground."""
    grey = np.full((HEIGHT, WIDTH), rng.uniform(0, 120), np.float32)
    for _ in range(int(rng.integers(2, 9))):
        level, place = float(rng.uniform(100, 255)), (int(rng.integers(0, WIDTH)), int(rng.integers(0, HEIGHT)))
        if rng.random() < 0.5:
            cv2.ellipse(grey, place, tuple(int(a) for a in rng.integers(10, 90, 2)), float(rng.uniform(0, 180)), 0, 360,
                        level, -1)
        else:
            corners = np.int32(rng.normal(0, 50, (int(rng.integers(3, 6)), 2)) + place)
            cv2.fillPoly(grey, [corners], level)
    return _grey(cv2.GaussianBlur(grey, (0, 0), 1.0))


def _page(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page of text: a report that was scanned among the films."""
    grey = np.full((HEIGHT, WIDTH), 245, np.uint8)
    for y in range(30, HEIGHT - 20, int(rng.integers(12, 22))):
        x = 25
        while x < WIDTH - 40 and rng.random() > 0.06:
            wide = int(rng.integers(8, 40))
            cv2.rectangle(grey, (x, y), (x + wide, y + 5), int(rng.integers(10, 90)), -1)
            x += wide + 6
    return grey


def _bones(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hand's bright parts alone, without flesh and ground."""
    ground = cv2.GaussianBlur(film.astype(np.float32), (0, 0), film.shape[0] / 25)
    return _grey(6 * np.maximum(film - ground, 0))


def _scattered(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The film's own parts in another order: four by three tiles."""
    film = cv2.resize(film, (WIDTH // 3 * 3, HEIGHT // 4 * 4))
    tiles = [tile for row in np.split(film, 4) for tile in np.split(row, 3, axis=1)]
    order = rng.permutation(12)
    return np.vstack([np.hstack([tiles[k] for k in order[row : row + 3]]) for row in (0, 3, 6, 9)])


def _three_fingers(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The upper half, and of its width about the middle half."""
    height, width = film.shape
    left = round(width * rng.uniform(0.2, 0.35))
    return film[: round(height * rng.uniform(0.45, 0.6)), left : left + round(width * rng.uniform(0.4, 0.5))]


def _wrist(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The lowest third: a wrist without fingers."""
    return film[round(film.shape[0] * rng.uniform(0.62, 0.72)) :]


def _two_hands(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Both hands on a sheet, thumbs together or apart, not quite of one height."""
    height, width = film.shape
    sheet = np.full((round(1.15 * height), round(2.2 * width)), int(np.percentile(film, 2)), np.uint8)
    hands = [film, film[:, ::-1]] if rng.random() < 0.5 else [film[:, ::-1], film]
    for hand, left in zip(hands, (rng.uniform(0, 0.1), rng.uniform(1.1, 1.2)), strict=True):
        top = int(rng.integers(0, len(sheet) - height + 1))
        sheet[top : top + height, round(left * width) : round(left * width) + width] = hand
    return sheet


def turned(degrees: float) -> Odd:
    """The film turned against the clock or with it, on a black sheet that holds it whole."""
    def turn(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = film.shape
        angle = degrees * rng.choice([-1, 1])
        cos, sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
        size = round(width * cos + height * sin), round(width * sin + height * cos)
        way = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        way[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
        return cv2.warpAffine(film, way, size)
    return turn


ODD: dict[str, Odd] = {
    "noise": _noise, "no object": _shades, "photograph of a film": _photograph, "photograph of a hand": _skin,
    "foot": _foot, "knee": _knee, "chest": _chest, "things": _things, "page of text": _page,
    "bones without flesh": _bones, "its parts in disorder": _scattered, "three fingers": _three_fingers,
    "wrist alone": _wrist, "two hands": _two_hands, "inverted": lambda film, rng: 255 - film,
    "mirrored": lambda film, rng: np.ascontiguousarray(film[:, ::-1]),
    **{f"turned {degrees}°": turned(degrees) for degrees in (15, 30, 45, 60, 90, 180)},
}
