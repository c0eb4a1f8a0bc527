"""The films that a report shows, small enough to stand in the page itself."""

import base64

import cv2
import numpy as np
import pandas as pd

from bonexage_utils.images import film_hashes, letterbox, read_films

SIDE, QUALITY = 160, 80  # px, and of the JPEG: 3 to 6 kB a film


def thumbnails(films: pd.DataFrame) -> dict[str, str]:
    """A data URI by `id` for each of `films` that is at hand: the `image` of its label, or the one that was predicted
    (`given_image`) if its bytes are still the same (`sha256`)."""
    same = (films["sha256"] != "") & (films["sha256"] == film_hashes(films["given_image"]))
    labelled = films.get("image", pd.Series("", films.index))  # a label table alone has none
    paths = labelled.where(labelled != "", films["given_image"].where(same, ""))
    there = [(film, path) for film, path in zip(films["id"], paths, strict=True) if path]
    read = read_films([path for _, path in there], lambda film, _: _jpeg(film))
    return {film: f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
            for (film, _), picture in zip(there, read, strict=True) if isinstance(picture, bytes)}  # else the reason


def _jpeg(film: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", letterbox(film, SIDE), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
