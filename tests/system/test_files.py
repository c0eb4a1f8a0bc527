"""What a file of ours never does to a file of the user's."""

import os
import signal
import threading
from pathlib import Path

import pytest

from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import StopRequest, atomic_file, check_outputs, only_writer


def write(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("new")


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "predictions.csv"
    place.write_text("old")
    place.chmod(mode)
    write(place)
    assert place.read_text() == "new"
    assert place.stat().st_mode & 0o777 == mode


def odd_places(folder: Path) -> dict[str, Path]:
    (folder / "file").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "file")
    (folder / "loose").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    return {"a folder": folder / "folder", "a link": folder / "link", "a link to nothing": folder / "loose",
            "a pipe": folder / "pipe", "a device": Path(os.devnull)}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are of POSIX")
@pytest.mark.parametrize("kind", ["a folder", "a link", "a link to nothing", "a pipe", "a device"])
def test_only_a_regular_file_is_written_over(tmp_path: Path, kind: str) -> None:
    place = odd_places(tmp_path)[kind]
    before = place.lstat()
    with pytest.raises(BoneXageError, match="name a file"):
        write(place)
    after = place.lstat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.rglob("*.part"))


def test_an_input_is_no_output_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film, other = tmp_path / "film.png", tmp_path / "other.csv"
    film.write_text("film")
    other.write_text("other")
    (tmp_path / "sub").mkdir()
    os.link(film, tmp_path / "sub" / "hard.png")
    monkeypatch.chdir(tmp_path)
    for name in (film, "film.png", "./sub/../film.png", "sub/hard.png"):
        with pytest.raises(BoneXageError, match="is read here"):
            check_outputs([other, name], [film])
    check_outputs([other, tmp_path / "new.csv"], [film, "absent.png", "a\0b"])


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_asks_to_stop_unless_nohup_says_otherwise() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def stop_twice() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)


def test_the_second_request_does_what_it_always_did() -> None:
    with pytest.raises(KeyboardInterrupt):
        stop_twice()


def test_those_who_wait_for_a_folder_that_is_made_and_removed_all_get_their_turn(tmp_path: Path) -> None:
    turns = []

    def take_turns() -> None:
        for _ in range(25):
            with only_writer(tmp_path / "new" / "x", wait=True):
                turns.append(len(turns))

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns == list(range(100))


def test_no_folder_is_made_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BoneXageError, match="a file stands"):
        check_outputs([tmp_path / "file" / "x.csv"])


@pytest.mark.parametrize("kind", ["a file", "a link to nothing"])
def test_no_lock_is_waited_for_where_no_folder_can_be(tmp_path: Path, kind: str) -> None:
    if kind == "a file":
        (tmp_path / "taken").write_text("mine")
    else:
        (tmp_path / "taken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="a file stands"), only_writer(tmp_path / "taken" / "x", wait=True):
        pass
