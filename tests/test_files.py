"""Files: refused by name before any work, written whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from fp8sim._support import memory
from fp8sim._support.files import check_source, check_target, locked, read_bytes, written
from fp8sim.checkpoints import open_checkpoint, read_array
from fp8sim.experiments.train.corpus import read_corpus
from fp8sim.models import get_model

unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes and devices in folders here")

READERS = {
    "check_source": check_source,
    "a config": get_model,
    "text": lambda path: read_corpus([path]),
    "a checkpoint": open_checkpoint,
    "activations": read_array,
}


@pytest.fixture
def endless(tmp_path):
    """Paths that are read for ever, or wait for ever."""
    os.mkfifo(tmp_path / "pipe.json")
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind(str(tmp_path / "socket.json"))
        yield ["/dev/zero", "/dev/stdin", tmp_path / "pipe.json", tmp_path / "socket.json"]


@unix
@pytest.mark.parametrize("reader", READERS)
def test_what_never_ends_or_waits_for_ever_is_refused_before_it_is_opened(endless, reader):
    for path in endless:
        with pytest.raises(ValueError, match="is a device, a pipe or a socket; name a file"):
            READERS[reader](path)


def test_a_missing_file_is_refused_with_names_near_it(tmp_path):
    (tmp_path / "weights.npy").touch()
    with pytest.raises(FileNotFoundError, match=r"no file .*wieghts\.npy; near it are weights\.npy"):
        check_source(tmp_path / "wieghts.npy")
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        check_source(tmp_path)
    with pytest.raises(ValueError, match="is no name of a file: File name too long"):
        check_source("a" * 5000)


def test_a_file_that_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "text").write_bytes(b"123")
    assert read_bytes(tmp_path / "text") == b"123"
    monkeypatch.setattr(memory, "available", lambda: 2)
    with pytest.raises(ValueError, match=r"text takes 3 B of memory, and there are 2 B; make it smaller"):
        read_bytes(tmp_path / "text")


# --- what is written ------------------------------------------------------------------------------


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_is_not_written_whole_is_not_written(tmp_path, error):
    (tmp_path / "p.png").write_bytes(b"old")

    def write():
        with written(tmp_path / "p.png") as stream:
            stream.write(b"half of the")
            stream.flush()
            assert left(tmp_path)["p.png"] == b"old"
            raise error

    with pytest.raises((OSError, KeyboardInterrupt)) as caught:
        write()
    assert left(tmp_path) == {"p.png": b"old"}
    if isinstance(error, OSError):
        assert str(caught.value).endswith("p.png: No space left on device")
    with written(tmp_path / "p.png") as stream:
        stream.write(b"new")
    assert left(tmp_path) == {"p.png": b"new"}


@pytest.mark.skipif(os.name == "nt", reason="modes are of Unix")
def test_a_new_file_keeps_the_mode_of_the_old_one_and_a_read_only_one_is_kept(tmp_path):
    (tmp_path / "p.png").write_bytes(b"old")
    (tmp_path / "p.png").chmod(0o600)
    with written(tmp_path / "p.png") as stream:
        stream.write(b"new")
    assert (tmp_path / "p.png").stat().st_mode & 0o777 == 0o600
    (tmp_path / "p.png").chmod(0o444)
    with pytest.raises(PermissionError, match=r"p\.png is read-only"), written(tmp_path / "p.png"):
        pytest.fail("opened")
    assert left(tmp_path) == {"p.png": b"new"}


@pytest.mark.parametrize(
    "name", ["", ".", "a" * 300, "a\0b", "loop"], ids=["none", "here", "long", "nul", "loop"]
)
def test_a_name_that_nothing_can_be_written_to_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("other")
    Path("other").symlink_to("loop")
    with pytest.raises(ValueError, match="name a file"):
        check_target(name)


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    with written(tmp_path / ("a" * 255)) as stream:
        stream.write(b"x")
    assert left(tmp_path) == {"a" * 255: b"x"}


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    second = locked(tmp_path)
    with locked(tmp_path), pytest.raises(ValueError, match=r"another run writes in .*; wait for its end"):
        second.__enter__()
    with locked(tmp_path):
        assert left(tmp_path) == {}


# --- memory ---------------------------------------------------------------------------------------


def test_a_limit_of_the_process_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    before = memory.available()
    assert before is not None
    monkeypatch.setattr(resource, "getrlimit", lambda _: (before // 2, resource.RLIM_INFINITY))
    assert memory.available() == before // 2
    memory.require(before // 2, "half of it")
    with pytest.raises(ValueError, match=r"all of it takes .* of memory, and there are .*; make it smaller"):
        memory.require(before, "all of it")
