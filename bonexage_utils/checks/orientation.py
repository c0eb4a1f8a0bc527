"""Which films lie otherwise than the rest: turned, mirrored or inverted. The cohort itself teaches what is usual."""

import cv2
import numpy as np
from scipy.stats import rankdata

# Variant v of a film is the film turned by v % 4 quarters against the clock, mirrored from v = 4 on (v // 4 odd), and
# inverted from v = 8 on.
VARIANTS = 16
FEWEST = 40  # films: with fewer it is not known what is usual
# A variant has to score this high (a film that lies as usual has 1, its variants 0), and so much more than the film as
# it is. Measured on the 12,611 training films of RSNA at 100 px, spoiled on purpose: found are 92 to 94 % of those
# turned by a half or a quarter or inverted, 80 % of the mirrored. As they are, 125 are called mirrored (looked at:
# about 105 have the thumb on the left), 28 rotated (11 are; most others are askew or a small field on a large film) and
# 3 inverted (none is; one shows two hands). In cohorts of 80 phantoms with four films spoiled, found are 88 % of 60
# inverted, 81 % of 120 turned and 58 % of 60 mirrored, at 4 false in 1,000; with five or six of one kind spoiled 83, 82
# and 35 %, for then 80 films often leave open which side is usual. In cohorts of 240, 72 % of the mirrored are found.
LEAST_SCORE, LEAST_GAIN = 0.4, 0.4
SIDE = 8  # px: coarse, because what lies where is all that matters; finer ones overfit small cohorts
UNITS = 1024
RIDGE = 10.0  # over the number of films: the fewer there are, the less is believed
FOLDS, MOST_TAUGHT = 5, 2000  # films; more change little


def _unit(thumbnails: np.ndarray, variant: int = 0) -> np.ndarray:
    """A variant of thumbnails (n, side, side) as vectors (n, side²) of mean 0 and length 1; 0 where all is one grey."""
    turned = np.rot90(thumbnails, variant % 4, axes=(1, 2))
    flat = (turned[:, :, ::-1] if variant // 4 % 2 else turned).reshape(len(turned), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return -flat if variant >= 8 else flat


def score_variants(thumbnails: np.ndarray) -> np.ndarray:
    """How usual each of the 16 variants of each film looks, (16, n), from square thumbnails (n, side, side).

    A linear discriminant on random features (Rahimi & Recht 2007) learns on four fifths of the films to separate them,
    1, from their 15 other variants, 0, and judges the last fifth, in turn. It needs most films to lie alike.
    """
    small = np.stack([cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for film in thumbnails])
    ranks = rankdata(small.reshape(len(small), -1), axis=1)  # the same whatever the exposure
    ranks = ranks.reshape(small.shape).astype(np.float32)
    rng = np.random.default_rng(0)
    weights = 3.0 * rng.normal(size=(SIDE**2, UNITS)).astype(np.float32)
    offsets = rng.normal(size=UNITS).astype(np.float32)

    def features(rows: np.ndarray, variant: int) -> np.ndarray:
        return np.maximum(_unit(ranks[rows], variant) @ weights + offsets, 0)

    scores = np.empty((VARIANTS, len(ranks)))
    fold = np.arange(len(ranks)) % FOLDS
    for judge in range(FOLDS):
        judged = np.flatnonzero(fold == judge)
        taught = rng.permutation(np.flatnonzero(fold != judge))[:MOST_TAUGHT]
        second, means = np.zeros((UNITS, UNITS)), []
        for variant in range(VARIANTS):
            values = features(taught, variant)
            second += values.T @ values / (VARIANTS * len(taught))
            means.append(values.mean(axis=0, dtype=float))
        mean = np.mean(means, axis=0)
        spread = second - np.outer(mean, mean)
        spread += RIDGE / len(taught) * np.trace(spread) / UNITS * np.eye(UNITS)
        direction = np.linalg.solve(spread, means[0] - mean) / VARIANTS
        for variant in range(VARIANTS):
            scores[variant, judged] = (features(judged, variant) - mean) @ direction + 1 / VARIANTS
    return scores


def find_turned(thumbnails: np.ndarray) -> np.ndarray:
    """The variant (n,), 1 to 15, that would make a film look like the rest; 0 for films that do, or where that is not
    known.

    `thumbnails` are grey films squashed to squares, uint8 (n, side, side).
    """
    if len(thumbnails) < FEWEST:
        return np.zeros(len(thumbnails), int)
    scores = score_variants(thumbnails)
    best, top = scores.argmax(axis=0), scores.max(axis=0)
    # Where most films prefer no side, as to left and right in a cohort of both hands, nobody is called odd.
    settled = np.median(scores[0] - scores, axis=1) > LEAST_GAIN
    return np.where((top > LEAST_SCORE) & (top - scores[0] > LEAST_GAIN) & settled[best], best, 0)


def describe(variant: int) -> tuple[str, str]:
    """A finding ("rotated", "mirrored" or "inverted") and what would mend it, for a variant from 1 to 15."""
    turns, mirrored, inverted = variant % 4, variant // 4 % 2, variant // 8
    steps = [f"turned by {90 * turns}° against the clock"] * bool(turns) + ["mirrored"] * mirrored
    steps += ["inverted"] * inverted
    return "inverted" if inverted else "rotated" if turns else "mirrored", " and ".join(steps)
