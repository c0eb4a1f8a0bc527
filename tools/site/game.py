"""The opening game: one page on which a reader says the bone age of ten simulated hands, and sees how far off she was
beside the median, one reader, the mean of six readers, and a network.

All ages on the page are whole months. The page asks nothing of the network and counts in the browser.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.stats import t as student

from bonexage_utils.batches import FilmDataset, film_sets
from bonexage_utils.course.frozen import BACKBONE, fit_head, frozen_maps, head_errors
from bonexage_utils.course.sliders import ONE, SEXES, average_child
from bonexage_utils.course.start import PROFILES, course_folder, find_cohort
from bonexage_utils.evaluation import median_by_sex
from bonexage_utils.images import Preprocessing, letterbox, measure_intensity
from bonexage_utils.phantom import Child, Nuisances, grow, render
from bonexage_utils.phantom.dataset import AGE_RANGE_MONTHS, VERSION
from bonexage_utils.phantom.labels import read_by_rater
from bonexage_utils.phantom.maturity import bone_age
from bonexage_utils.prediction import format_age
from bonexage_utils.weights import read_record

FILE, KEPT = "game.html", "game_network.json"
SEED = 11  # of hands and readers: other children than those of the embedded cohort, whose seed is 0
HANDS, READERS = 10, 6
NETWORK_SIZE, TALLEST, ATLAS_HEIGHT = 160, 640, 320  # px: what the network sees; what the page shows
LEAST_CONTRAST = 60  # grey levels: on a phone in the sun nobody sees more of a film with less
ATLAS_YEARS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 18)
QUALITY = 85  # of the JPEG files
SLIDER = {"lowest": 6, "start": 120, "highest": 228}  # months; the oldest plate of the atlas is 19 years


@dataclass(frozen=True)
class Hand:
    """One simulated child and its film, uint8 (H, W)."""

    child: Child
    film: np.ndarray

    @property
    def months(self) -> int:
        """The true bone age."""
        return round(self.child.bone_age_months)

    @property
    def alt(self) -> str:
        """What the film shows, for whoever does not see it: enough to play, and no age."""
        centres = self.child.centres
        there, closed = sum(c.present for c in centres), sum(c.fusion == 1 for c in centres)
        closing = sum(0 < c.fusion < 1 for c in centres)
        return (f"Film of a {ONE[self.child.sex]}'s hand. {there} of {len(centres)} ossification centres show; "
                f"{closing} growth plates are closing and {closed} have closed.")


def draw_hands(seed: int = SEED) -> list[Hand]:
    """HANDS children in random order, girls and boys in turn, ages evenly spread over 1 to 18 years, on films as site A
    takes them, but none that is nearly black or lies on its side."""
    low, high = AGE_RANGE_MONTHS
    hands = []
    for place in np.random.default_rng(seed).permutation(HANDS):
        rng = np.random.default_rng([seed, place])
        child = grow(SEXES[place % 2], low + (high - low) * (place + 0.5) / HANDS, rng)
        while (how := Nuisances.draw(rng, child.chronological_age_months, "A")).quarter_turns or (
                how.contrast < LEAST_CONTRAST):
            pass
        hands.append(Hand(child, render(child, rng, None, how)[0]))
    return hands


def draw_atlas() -> list[Hand]:
    """The average girl and boy at each of ATLAS_YEARS of *bone age*, on neutral films."""
    hands = []
    for sex in SEXES:
        birthdays = np.arange(1, 241)
        reached = [bone_age(sex, months, tempo=0.0) for months in birthdays]
        for years in ATLAS_YEARS:
            child = average_child(sex, float(np.interp(12 * years, reached, birthdays)))
            hands.append(Hand(child, render(child, np.random.default_rng(0), ATLAS_HEIGHT, Nuisances())[0]))
    return hands


def readings(hands: list[Hand], seed: int = SEED) -> np.ndarray:
    """What READERS simulated readers say of each hand, months (READERS, n); no reader knows another's answer."""
    children = [hand.child for hand in hands]
    return np.array([[read_by_rater(child.bone_age_months, child.sex, np.random.default_rng([seed, reader, place]))
                      for place, child in enumerate(children)] for reader in range(1, READERS + 1)])


def ask_network(hands: list[Hand]) -> dict[str, Any]:
    """Train a head on the frozen maps of the embedded cohort's training films and let it read `hands`.

    Gives `network`, its answers (n,) in months; `median`, the median label by sex of the same films; and `films`, how
    many those were. Takes about a minute.
    """
    os.environ["BONEXAGE_DATA"] = "phantom"  # whatever else lies in data/
    cohort, _ = find_cohort(PROFILES["cpu"], course_folder())
    films = film_sets(cohort, ("train",), NETWORK_SIZE)[0]["train"]
    preprocessing = Preprocessing(NETWORK_SIZE, *measure_intensity(films.films, films.rows))
    asked = pd.DataFrame({"id": [f"game-{n}" for n in range(len(hands))], "sex": [hand.child.sex for hand in hands],
                          "months": [float(hand.months) for hand in hands]})
    ten = FilmDataset(np.stack([letterbox(hand.film, NETWORK_SIZE) for hand in hands]), np.arange(len(hands)), asked)
    learned, seen = (frozen_maps(BACKBONE, "phantom", part, preprocessing) for part in (films, ten))
    answers = head_errors(fit_head(BACKBONE, learned, seed=0), seen) + asked["months"].to_numpy()
    return {"network": [round(float(months)) for months in answers],
            "median": {sex: round(months) for sex, months in median_by_sex(cohort.split("train")).items()},
            "films": len(films)}


def network_answers(hands: list[Hand], folder: Path) -> dict[str, Any]:
    """`ask_network`, or what it said of the same films last time, kept in `folder`."""
    digest = hashlib.sha256(f"{VERSION} {BACKBONE} {read_record(BACKBONE)['sha256']}".encode())
    for hand in hands:
        digest.update(letterbox(hand.film, NETWORK_SIZE))
    kept, key = folder / KEPT, digest.hexdigest()
    if kept.is_file() and (answers := json.loads(kept.read_text(encoding="utf-8")))["key"] == key:
        return answers
    answers = {"key": key, **ask_network(hands)}
    kept.write_text(json.dumps(answers), encoding="utf-8")
    return answers


def picture(film: np.ndarray, tallest: int = TALLEST) -> str:
    """A film, uint8 (H, W), as a data URI, at most `tallest` px high."""
    if (height := film.shape[0]) > tallest:
        size = (round(film.shape[1] * tallest / height), tallest)
        film = cv2.resize(film, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def game_data(hands: list[Hand], atlas: list[Hand], answers: dict[str, Any]) -> dict[str, Any]:
    """What the page is made of. `answers` are those of `ask_network`.

    The true ages and everybody's answers are base64 of JSON under `closed`: not a secret, but out of sight of whoever
    looks at the page's source before she has played.
    """
    said = readings(hands)
    closed = {
        "truth": [hand.months for hand in hands],
        "players": [
            {"name": "The median", "months": [answers["median"][hand.child.sex] for hand in hands]},
            {"name": "One reader", "months": said[0].tolist()},
            {"name": "Six readers", "months": [round(months) for months in said.mean(0)]},
            {"name": "The network", "months": answers["network"]},
        ],
    }
    return {
        "hands": [{"sex": ONE[hand.child.sex], "film": picture(hand.film), "alt": hand.alt} for hand in hands],
        "atlas": [{"sex": ONE[hand.child.sex], "film": picture(hand.film), "alt": hand.alt,
                   "age": format_age(12 * round(hand.months / 12)).removesuffix(" 0 months")} for hand in atlas],
        "slider": SLIDER,
        # For the 95 % intervals. In 4,000 samples of ten normal or Laplace errors, Student's held the mean in 93 and
        # 90 %, the notebooks' bootstrap in 89 and 87 %.
        "t": float(student.ppf(0.975, len(hands) - 1)),
        "films": answers["films"],
        "closed": base64.b64encode(json.dumps(closed).encode()).decode(),
    }


def game_page(data: dict[str, Any]) -> str:
    """The page as HTML, complete in itself."""
    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=here, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(FILE).render(data=data)


def write_game(folder: Path) -> Path:
    """Write the page into `folder`, and beside it what the network said, for the next time."""
    hands = draw_hands()
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / FILE
    page.write_text(game_page(game_data(hands, draw_atlas(), network_answers(hands, folder))), encoding="utf-8")
    return page
