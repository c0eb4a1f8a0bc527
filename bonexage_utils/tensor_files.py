"""What a file of weights says of itself: its table of contents and its description, read without torch."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bonexage_utils.errors import BoneXageError

FORMAT = 1
# One key with one JSON string: safetensors orders several keys differently at each save.
KEY = "bonexage"
# Bytes of a file's table of contents. The state of timm's deepest networks takes 2 MB; a million tensors 60.
LARGEST_HEADER = 2**23
Shapes = dict[str, tuple[int, ...]]


def require_text_path(path: Path) -> None:
    """Raise BoneXageError for a path that is not UTF-8, at which safetensors reads nothing."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise BoneXageError(f"{path}: its name or a folder's is not UTF-8; rename it, or choose another") from None


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Where reading `path` fails, raise a BoneXageError of one line that names it."""
    try:
        yield
    except BoneXageError as error:
        raise BoneXageError(f"{path}: {error}; copy it again, or use one written by this version") from None
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BoneXageError(f"{path}: not a whole safetensors file ({reason}); copy or train it again") from None


def read_contents(path: Path) -> tuple[dict, Shapes]:
    """The description in a file of weights, as it stands there and unchecked, and the shape of each tensor by name.

    Raises BoneXageError for a missing, truncated or foreign file.
    """
    if not path.is_file():
        raise BoneXageError(f"{path}: no such file; give a model.safetensors written by 'bonexage train'")
    require_text_path(path)
    with whole_file(path):
        with open(path, "rb") as raw:
            if int.from_bytes(raw.read(8), "little") > LARGEST_HEADER:
                raise ValueError("its table of contents is too long")
        with safe_open(path, framework="np") as file:
            description = json.loads((file.metadata() or {}).get(KEY, "null"))
            if not isinstance(description, dict) or description.get("format") != FORMAT:
                raise BoneXageError(f"not a BoneXage checkpoint of format {FORMAT}")
            return description, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
