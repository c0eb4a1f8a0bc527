"""How a hand lies on its film: turned, mirrored, inverted, two of them, or none. Films that lie as usual teach it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

# Variant v of a film is the film turned by v % 4 quarters against the clock, mirrored from v = 4 on (v // 4 odd), and
# inverted from v = 8 on. A film of two hands is no variant of one, nor is one whose hand lies askew.
VARIANTS = 16
TWO_HANDS, ASKEW = VARIANTS, VARIANTS + 1
FEWEST = 40  # films: with fewer it is not known what is usual
# A variant has to score this high (a film that lies as usual has 1, its variants 0), and so much more than the film as
# it is. Measured on the 12,611 training films of RSNA at 100 px, spoiled on purpose, by the films themselves: found are
# 92 to 94 % of those turned by a half or a quarter or inverted, 80 % of the mirrored. As they are, 125 are called
# mirrored (looked at: about 105 have the thumb on the left), 28 rotated (11 are; most others are askew or a small field
# on a large film) and 3 inverted (none is; one shows two hands). In cohorts of 80 phantoms with four films spoiled,
# found are 88 % of 60 inverted, 81 % of 120 turned and 58 % of 60 mirrored, at 4 false in 1,000; with five or six of
# one kind spoiled 83, 82 and 35 %, for then 80 films often leave open which side is usual. In cohorts of 240, 72 % of
# the mirrored are found.
LEAST_SCORE, LEAST_GAIN = 0.4, 0.4
# By `shipped`, a film alone is judged by these, because what phantoms taught is surer of real films than the films
# themselves are; left and right are the hardest to tell. See data/reference_runs/README.md for what is found so.
ALONE_SCORE = 0.3
ALONE_GAIN = np.where(np.arange(VARIANTS) == 4, 0.4, 0.2)
LEAST_ASKEW = 0.6
EIGHTH = 38, 62  # degrees: how far hands are turned that teach what askew is
SIDE = 8  # px: coarse, because what lies where is all that matters; finer ones overfit small cohorts
PICTURE = 32  # px, of a thumbnail
UNITS = 1024
RIDGE = 10.0  # over the number of films: the fewer there are, the less is believed
FOLDS, MOST_TAUGHT = 5, 2000  # films; more change little
# Grey levels between the darkest and the brightest part of a thumbnail, without 2 % of it at either end: a letter or a
# speck. The palest of RSNA's 12,611 training films has 14, the palest of 1,789 phantoms 10.
BLANK_RANGE, SPECKS = 8, 2.0
SHIPPED = Path(__file__).parent / "weights" / "orientation.npz"


def thumbnail(film: np.ndarray) -> np.ndarray:
    """A grey film (height, width), squashed to (PICTURE, PICTURE), so that the eight symmetries of a square map
    thumbnails onto thumbnails."""
    return cv2.resize(film, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)


def is_blank(picture: np.ndarray) -> bool:
    """Whether a thumbnail shows nothing, or nearly nothing."""
    return bool(np.ptp(np.percentile(picture, [SPECKS, 100 - SPECKS])) < BLANK_RANGE)


@dataclass(frozen=True)
class Orientation:
    """A linear discriminant on random features (Rahimi & Recht 2007), random `weights` (SIDE², UNITS) and `offsets`
    (UNITS,) of thumbnails' ranks: `directions` (UNITS, 2) from their `mean` (UNITS,), to films that lie as usual and to
    films of two hands."""

    weights: np.ndarray
    offsets: np.ndarray
    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def learn(cls, thumbnails: np.ndarray, askew: bool = False) -> "Orientation":
        """Learn from thumbnails (n, PICTURE, PICTURE), most of which lie alike, what tells them, 1, from their 15 other
        variants and from pairs of them side by side, 0; what tells pairs, 1, from the rest, 0; and, if asked, what
        tells the `askew`."""
        rng = np.random.default_rng(0)
        weights = 3.0 * rng.normal(size=(SIDE**2, UNITS)).astype(np.float32)
        offsets = rng.normal(size=UNITS).astype(np.float32)
        new = cls(weights, offsets, np.zeros(UNITS), np.zeros((UNITS, 2)))
        ranks = _ranks(thumbnails)
        kinds = [(ranks, variant) for variant in range(VARIANTS)] + [(_ranks(_pairs(thumbnails, rng)), 0)]
        kinds += [(_ranks(_eighths(thumbnails, rng)), 0)] if askew else []
        second, means = np.zeros((UNITS, UNITS)), []
        for pictures, variant in kinds:
            values = new._features(pictures, variant)
            second += values.T @ values / (len(kinds) * len(pictures))
            means.append(values.mean(axis=0, dtype=float))
        mean = np.mean(means, axis=0)
        spread = second - np.outer(mean, mean)
        spread += RIDGE / len(thumbnails) * np.trace(spread) / UNITS * np.eye(UNITS)
        towards = np.stack([means[kind] - mean for kind in (0, *range(TWO_HANDS, len(kinds)))], axis=1)
        return cls(weights, offsets, mean, np.linalg.solve(spread, towards) / len(kinds))

    def _features(self, ranks: np.ndarray, variant: int) -> np.ndarray:
        return np.maximum(_unit(ranks, variant) @ self.weights + self.offsets, 0)

    def scores(self, thumbnails: np.ndarray) -> np.ndarray:
        """How usual each of the 16 variants of each thumbnail looks, how much it looks like two hands, and, if that was
        taught, how much it or a quarter turn of it looks askew: (17, n) or (18, n)."""
        ranks, share = _ranks(thumbnails), 1 / (VARIANTS - 1 + self.directions.shape[1])
        shown = np.stack([(self._features(ranks, variant) - self.mean) @ self.directions + share
                          for variant in range(VARIANTS)])
        return np.vstack([shown[:, :, 0], shown[:1, :, 1], *(shown[:4, :, kind].max(axis=0, keepdims=True)
                                                             for kind in range(2, shown.shape[2]))])


@cache
def shipped() -> Orientation:
    """The one that comes with the package, taught by phantoms: left hands, fingers up, bones bright. For films of any
    cohort, one by one."""
    with np.load(SHIPPED, allow_pickle=False) as stored:
        return Orientation(**{name: stored[name].astype(np.float32) for name in stored.files})


def judge(scores: np.ndarray, least_score: float, least_gain: np.ndarray) -> np.ndarray:
    """From scores (17 or 18, n) for each film the variant, 1 to 15, that would make it lie as usual, `TWO_HANDS`, or 0
    where nothing is odd. `least_gain` (16,) is how much more than the film as it is a variant has to score."""
    usual, two = scores[:VARIANTS], scores[TWO_HANDS]
    best, top = usual.argmax(axis=0), usual.max(axis=0)
    turned = np.where((top > least_score) & (top - usual[0] > least_gain[best]), best, 0)
    return np.where(two > LEAST_SCORE, TWO_HANDS, turned)


def find_odd(thumbnails: np.ndarray) -> np.ndarray:
    """What `judge` says of films (n,), each by itself, by what is usual among all hands, `shipped`; or `ASKEW`."""
    scores = shipped().scores(thumbnails)
    odd = judge(scores, ALONE_SCORE, ALONE_GAIN)
    return np.where((scores[ASKEW] > LEAST_ASKEW) & (odd != TWO_HANDS), ASKEW, odd)


def find_turned(thumbnails: np.ndarray) -> np.ndarray:
    """What `judge` says of films (n,) of one cohort, by what is usual among its other films; 0 where that is not known.

    Four fifths of the films teach what is usual, the last fifth is judged, in turn. `thumbnails` are grey films
    squashed to squares, uint8 (n, PICTURE, PICTURE).
    """
    if len(thumbnails) < FEWEST:
        return np.zeros(len(thumbnails), int)
    rng = np.random.default_rng(0)
    scores = np.empty((VARIANTS + 1, len(thumbnails)))
    fold = np.arange(len(thumbnails)) % FOLDS
    for number in range(FOLDS):
        taught = rng.permutation(np.flatnonzero(fold != number))[:MOST_TAUGHT]
        scores[:, fold == number] = Orientation.learn(thumbnails[taught]).scores(thumbnails[fold == number])
    # Where most films prefer no side, as to left and right in a cohort of both hands, nobody is called odd.
    settled = np.append(np.median(scores[0] - scores[:VARIANTS], axis=1) > LEAST_GAIN, True)
    found = judge(scores, LEAST_SCORE, np.full(VARIANTS, LEAST_GAIN))
    return np.where(settled[found], found, 0)


def _unit(pictures: np.ndarray, variant: int = 0) -> np.ndarray:
    """A variant of pictures (n, side, side) as vectors (n, side²) of mean 0 and length 1; 0 where all is one grey."""
    turned = np.rot90(pictures, variant % 4, axes=(1, 2))
    flat = (turned[:, :, ::-1] if variant // 4 % 2 else turned).reshape(len(turned), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return -flat if variant >= 8 else flat


def _ranks(thumbnails: np.ndarray) -> np.ndarray:
    """Each thumbnail's SIDE × SIDE greys by rank, which is the same whatever the exposure."""
    small = np.stack([cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for film in thumbnails])
    # Not SciPy's `rankdata`, which does the same: to import it takes a fifth of the time of a single prediction.
    return pd.DataFrame(small.reshape(len(small), -1)).rank(axis=1).to_numpy(np.float32).reshape(small.shape)


def _eighths(thumbnails: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thumbnails turned by about an eighth, to either side, some shrunk as on a larger sheet that holds them whole."""
    turned = []
    for one in thumbnails:
        degrees = rng.uniform(*EIGHTH) * rng.choice([-1, 1])
        way = cv2.getRotationMatrix2D(((PICTURE - 1) / 2, (PICTURE - 1) / 2), degrees, rng.uniform(0.62, 1.0))
        turned.append(cv2.warpAffine(one, way, (PICTURE, PICTURE), borderValue=int(np.percentile(one, SPECKS))))
    return np.stack(turned)


def _pairs(thumbnails: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many thumbnails of two hands: each film beside the mirror image of itself or of another, smaller, higher or
    lower, as chance has it."""
    other = np.where(rng.random(len(thumbnails)) < 0.5, np.arange(len(thumbnails)), rng.permutation(len(thumbnails)))
    pairs = []
    for left, right in zip(thumbnails, thumbnails[other, :, ::-1], strict=True):
        hands = [left, right] if rng.random() < 0.5 else [right, left]
        gap = int(rng.integers(0, PICTURE // 6))
        sheet = np.full((PICTURE, 2 * PICTURE + gap), np.percentile(left, 2), np.uint8)
        for hand, start in zip(hands, (0, PICTURE + gap), strict=True):
            high, wide = (round(PICTURE * rng.uniform(0.8, 1)) for _ in range(2))
            top, aside = (int(rng.integers(0, PICTURE - side + 1)) for side in (high, wide))
            sheet[top : top + high, start + aside : start + aside + wide] = cv2.resize(
                hand, (wide, high), interpolation=cv2.INTER_AREA)
        pairs.append(cv2.resize(sheet, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA))
    return np.stack(pairs)
