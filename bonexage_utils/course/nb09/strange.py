"""Films that are no hand, or one that lies otherwise, put to a network that may know it (notebook 09)."""

import numpy as np
import pandas as pd
import torch

from bonexage_utils.batches import film_key
from bonexage_utils.course.nb09.odd_films import ODD
from bonexage_utils.decoding import read_gray
from bonexage_utils.devices import to_network
from bonexage_utils.familiarity import Familiarity, map_statistics
from bonexage_utils.figures import Picture, montage
from bonexage_utils.images import letterbox
from bonexage_utils.notes import orientation_notes
from bonexage_utils.orientation import thumbnail
from bonexage_utils.prediction import Predictor

USUAL = "as it is"
# All kinds would be a picture of half a megabyte.
SHOWN = (USUAL, "no object", "photograph of a film", "photograph of a hand", "foot", "knee", "page of text",
         "two hands", "inverted", "mirrored", "turned 45°", "turned 180°")


@torch.inference_mode()
def put_strange(predictor: Predictor, known: Familiarity, films: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Each of `films` (`id`, `image`, `sex`) as it is and in every way of `ODD`: a table by kind of the shares that
    have a note by what the network sees (`unlike`), by how the film lies (`lying`) and by either (`noted`), and the
    median `months` that are answered; and one film of each kind with its answer, for `draw_strange`."""
    rows, examples = {}, {}
    for number, (kind, odd) in enumerate({USUAL: lambda film, rng: film, **ODD}.items()):
        made = [odd(read_gray(row.image), np.random.default_rng([number, film_key(row.id)]))
                for row in films.itertuples()]
        squares = np.stack([letterbox(film, predictor.preprocessing.image_size) for film in made])
        images = to_network(torch.from_numpy(squares), predictor.preprocessing, predictor.device)
        unlike = known.unfamiliar(map_statistics(predictor.model.features(images)))
        lying = np.array([note != "" for note in orientation_notes(np.stack([thumbnail(film) for film in made]))])
        months = predictor.months(squares, films["sex"].tolist())
        rows[kind] = {"films": len(made), "unlike": unlike.mean(), "lying": lying.mean(),
                      "noted": (unlike | lying).mean(), "months": float(np.median(months))}
        examples[kind] = squares[0], float(months[0]), bool(unlike[0] | lying[0])
    return pd.DataFrame(rows).T, examples


def draw_strange(examples: dict, columns: int = 6) -> Picture:
    """One film of each kind of `SHOWN` under its name, its answer in months, and whether it has a note."""
    examples = {kind: examples[kind] for kind in SHOWN}
    titles = [f"{kind}\n{months:.0f} months{', note' if noted else ''}"
              for kind, (_, months, noted) in examples.items()]
    said = "; ".join(title.replace("\n", ": ") for title in titles)
    return montage([film for film, *_ in examples.values()], titles,
                   f"The same child's film as it is and made odd in {len(examples) - 1} ways: {said}.",
                   columns=columns, side=1.5)
