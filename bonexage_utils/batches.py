"""Films in batches: the data set over the cached bytes, the order of an epoch, the loaders."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError, decoders_wanted
from bonexage_utils.images import cached_images
from bonexage_utils.tags import all_tags

SEX_CODE = {"F": 0, "M": 1}


class FilmDataset(Dataset):
    """Rows of a cohort over an array of letterboxed films.

    Each item is a dict: `image` uint8 (1, size, size), `months` float32, `sex` int64 (0 girl, 1 boy) and `key`
    int64, made from the film's id: the seed of everything random that happens to this film.
    """

    def __init__(self, films: np.ndarray, rows: np.ndarray, table: pd.DataFrame) -> None:
        self.films = films
        self.rows = rows
        self.months = table["months"].to_numpy(np.float32)
        self.sex = table["sex"].map(SEX_CODE).to_numpy(np.int64)
        self.keys = np.array([film_key(film) for film in table["id"]], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict:
        # Workers that are spawned get a copy of the dataset: of the cache, only its place.
        mapped = isinstance(self.films, np.memmap)
        return {**self.__dict__, "films": Path(self.films.filename) if mapped else self.films}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if isinstance(self.films, Path):
            self.films = np.load(self.films, mmap_mode="r", allow_pickle=False)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        return {
            "image": torch.from_numpy(np.array(self.films[self.rows[item]]))[None],
            "months": torch.tensor(self.months[item]),
            "sex": torch.tensor(self.sex[item]),
            "key": torch.tensor(self.keys[item]),
        }


def film_key(film_id: str) -> int:
    """A number from 0 to 2^63 − 1 for a film id, the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(film_id.encode()).digest()[:8], "big") >> 1


def pixel_keys(films: Iterable[np.ndarray]) -> np.ndarray:
    """A number for each letterboxed film, uint8 (S, S), by its pixels: int64 (n,), the same under whatever name."""
    digests = (hashlib.sha256(film).digest()[:8] for film in films)
    return np.array([int.from_bytes(digest, "big", signed=True) for digest in digests], np.int64)


def check_headers(films: pd.DataFrame, root: Path) -> None:
    """Raises BoneXageError for films (`image`, `sex`) whose header contradicts their label."""
    said = zip(films["image"], films["sex"], all_tags(films["image"]), strict=True)
    if wrong := [f"{image}: {what}" for image, sex, tags in said if (what := tags.against(sex, "the label"))]:
        raise BoneXageError(f"{root}: {len(wrong)} films contradict their labels, e.g. {wrong[0]}")


def film_sets(
    cohort: Cohort, splits: tuple[str, ...], size: int, drop_bad: bool = False, cache_dir: Path | str | None = None,
    workers: int | None = None,
) -> tuple[dict[str, FilmDataset], dict[str, pd.DataFrame], dict[str, str]]:
    """A data set of each split at (size, size) px, the rows of the table in each, and what was dropped: id to reason.
    `workers` as for `images.read_films`.

    Raises BoneXageError naming films that cannot be read, unless `drop_bad`; and for films whose header contradicts
    their label.
    """
    table = cohort.table[cohort.table["split"].isin(splits)].reset_index(drop=True)
    check_headers(table, cohort.root)
    cache = cached_images(table["image"].tolist(), size, cache_dir, workers)
    dropped = {table["id"][row]: reason for row, reason in cache.failures.items()}
    if dropped and not drop_bad:
        kinds = {reason.split(": ")[-1]: reason for reason in reversed(dropped.values())}  # an example of each
        shown, wanted = "; ".join([*kinds.values()][:3]), decoders_wanted(dropped.values())
        raise BoneXageError(f"{cohort.root}: {len(dropped)} films cannot be used, e.g. {shown}; mend them, or go on "
                            f"without them with --drop-bad{f' ({wanted})' if wanted else ''}")
    good = table.drop(index=list(cache.failures))
    parts = {split: good[good["split"] == split] for split in splits}
    sets = {split: FilmDataset(cache.array, part.index.to_numpy(), part) for split, part in parts.items()}
    return sets, parts, dropped


def film_table(sets: dict[str, FilmDataset], parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What a network gets to know of the films of `film_sets`, in their order: `id`, `split`, `months`, `sex`, and
    `pixels`, the SHA-256 of the letterboxed film. All of it text, so that a CSV gives it back as it is."""
    return pd.concat([
        part[["id", "split", "months", "sex"]].assign(
            months=part["months"].map(repr),
            pixels=[hashlib.sha256(sets[split].films[row]).hexdigest() for row in sets[split].rows])
        for split, part in parts.items()
    ], ignore_index=True)


def film_changes(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """How two tables of `film_table` differ, in words: how many films in which way, and one of each for an example."""
    old, new = before.set_index("id"), after.set_index("id")
    both = old.index.intersection(new.index)
    ways = {"new": new.index.difference(old.index), "gone": old.index.difference(new.index)}
    for column, name in (("months", "age"), ("sex", "sex"), ("split", "split"), ("pixels", "pixels")):
        ways[f"changed in {name}"] = both[old.loc[both, column] != new.loc[both, column]]
    return ", ".join(f"{len(films):,} {way} (e.g. {films[0]!r})" for way, films in ways.items() if len(films)) or (
        "the same in another order")


class EpochSampler(Sampler[int]):
    """A new order every epoch, decided by (seed, epoch) alone; set `epoch` before iterating.

    Gives the largest multiple of `group` that `length` holds; which films are left over differs by epoch. `skip`
    leaves out the first of them: those that a stopped run has trained on already.
    """

    def __init__(self, length: int, seed: int, group: int = 1) -> None:
        self.length, self.seed, self.epoch, self.skip = length, seed, 0, 0
        self.count = length // group * group

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter(order[self.skip : self.count].tolist())


def train_loader(dataset: FilmDataset, batch_size: int, seed: int, workers: int = 0, grad_accum: int = 1) -> DataLoader:
    """Shuffled batches, all whole, and as many as make whole updates of `grad_accum` batches each."""
    sampler = EpochSampler(len(dataset), seed, batch_size * grad_accum)
    # A generator of its own: else starting workers draws from torch's global stream, and so moves the dropout.
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0,
                      generator=torch.Generator(), pin_memory=torch.cuda.is_available())


def eval_loader(dataset: FilmDataset, batch_size: int, workers: int = 0) -> DataLoader:
    """Every film once, in the order of the table."""
    return DataLoader(dataset, batch_size, num_workers=workers, pin_memory=torch.cuda.is_available())
