"""Whole files or none, one writer at a time, and being asked to stop in the middle."""

import errno
import glob
import hashlib
import os
import shutil
import signal
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from bonexage_utils.errors import BoneXageError


def _temporary_sibling(path: Path) -> Path:
    # A sibling, because a rename is only atomic within one file system.
    return path.with_name(f".{short_name(path)}.{uuid.uuid4().hex[:8]}.part")


def short_name(path: Path) -> str:
    """A name that leaves room for what is put round it: file systems take 255 bytes."""
    name = path.name
    return name if len(os.fsencode(name)) <= 200 else hashlib.sha256(os.fsencode(name)).hexdigest()


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def _rename(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    if os.name == "posix":  # a rename survives a power cut once the folder is on disk; Windows cannot open folders
        folder = os.open(path.parent, os.O_RDONLY)
        with suppress(OSError):  # some network file systems refuse it
            os.fsync(folder)
        os.close(folder)


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_outputs(outputs: Iterable[Path | str], inputs: Iterable[Path | str] = ()) -> None:
    """Raise BoneXageError if one of `outputs` may not be written: a link, a folder, a device, or one of the files
    `inputs`, under whatever name."""
    taken = {}
    for path in map(Path, outputs):
        with suppress(FileNotFoundError):
            try:
                about = path.lstat()
            except NotADirectoryError:
                raise BoneXageError(f"{path}: a file stands where its folder should be; name another place") from None
            if not stat.S_ISREG(about.st_mode):
                kind = "a link" if stat.S_ISLNK(about.st_mode) else "a folder" if path.is_dir() else "no regular file"
                raise BoneXageError(f"{path}: {kind}, which is not written over; name a file of its own")
            taken[about.st_dev, about.st_ino] = path
    for given in inputs if taken else ():
        with suppress(OSError, ValueError):
            about = os.stat(given)
            if path := taken.get((about.st_dev, about.st_ino)):
                raise BoneXageError(f"{path}: is read here, so nothing is written over it; name another file")


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path; flush it and rename it to `path` when the block ends well, else remove it.

    A file that stood there keeps its permissions. Raises BoneXageError for what `check_outputs` refuses.
    """
    path = Path(path).absolute()
    check_outputs([path])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    try:
        yield temporary
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        _flush_to_disk(temporary)
        _rename(temporary, path)
    except OSError as error:  # a full disk names no file
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder; rename it to `path` when the block ends well, else remove it.

    Raises OSError if `path` is there already and not empty: a folder is never replaced.
    """
    path = Path(path).absolute()  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        if path.is_dir():
            path.rmdir()  # only ever succeeds on an empty folder
        _rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def only_writer(path: Path, *others: Path, wait: bool = False) -> Iterator[None]:
    """Hold the right to write `path`, a file or folder, and the files `others`, which nobody writes without it; on
    entry, remove what a killed writer of these left half done.

    The lock is the system's, on a file beside `path`, and ends with the process that holds it, however that ends.
    Raises BoneXageError at once if another process holds it, unless `wait`; OSError where nothing can be locked.
    """
    place = path.absolute()  # "." has no name
    missing = [folder for folder in place.parents if not folder.exists()]
    lock = FileLock(place.with_name(f".{short_name(place)}.lock"), timeout=-1 if wait else 0)
    while not lock.is_locked:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise BoneXageError(f"{path}: in use by another run; wait for it, or write to another place") from None
        except (FileNotFoundError, FileExistsError):  # another that waited here has removed the empty folder again
            if os.path.lexists(place.parent) and not place.parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder should", str(place.parent)) \
                    from None
        except NotImplementedError:
            raise OSError(errno.ENOLCK, "cannot be locked", str(path)) from None
    try:
        for target in (place, *others):
            # Exactly the names of `_temporary_sibling`: a neighbour's may be in the making.
            for part in target.parent.glob(f".{glob.escape(short_name(target))}.????????.part"):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        yield
    finally:
        # Removed while held: another process that waits for this file finds it gone and makes a new one. Windows keeps
        # open files.
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()
        with suppress(OSError):  # folders that nothing was written into
            for folder in missing:
                folder.rmdir()


STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """Being asked to stop: Ctrl-C, the stop button of a notebook, or a machine that is about to go down.

    Inside its `with` block the first SIGINT, SIGTERM or SIGHUP (a terminal that closes) only sets `asked`; a second
    does what it always did. One that is ignored, as under nohup, stays so. Outside the main thread, where Python lets
    nobody catch signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def __enter__(self) -> "StopRequest":
        self.asked, self._before = False, {}
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._restore()
