"""What is no checkpoint, or a damaged one: each is named for what it is, in one line."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile

import numpy as np
import pytest

from fp8sim.checkpoints import open_checkpoint
from tensor_files import safetensors, save, with_header

GOOD = safetensors({"w": ("F32", np.ones((4, 2), np.float32)), "v": ("BF16", np.ones(4, np.uint16))})


def header(**changes):
    """Return a file of one tensor whose entry is changed."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    return with_header(
        json.dumps({"w": {key: value for key, value in entry.items() if value != "left out"}}), bytes(8)
    )


def two(first, second, data=16):
    """Return a file of two tensors of bytes at these offsets."""
    entries = {
        name: {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
        for name, (start, stop) in (("a", first), ("b", second))
    }
    return with_header(json.dumps(entries), bytes(data))


def zipped(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, b"")
    return stream.getvalue()


def npy():
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


NO = "is no readable safetensors file: "
FILES = {
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "is a Git LFS pointer"
    ),
    "HTML": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page"),
    "HTML in capitals": (b"\n  <HTML lang=en>", "is a web page"),
    "XML of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(100), "is a GGUF file"),
    "GGML": (b"lmgg" + bytes(100), "is a GGML file"),
    "npy": (npy(), r"is an \.npy file; read it with fp8sim\.checkpoints\.read_array"),
    "npz": (zipped("a.npy"), "looks like a pickle checkpoint"),
    "a torch archive": (zipped("archive/data.pkl"), "looks like a pickle checkpoint"),
    "an old pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "looks like a pickle checkpoint"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "gzip": (gzip.compress(GOOD), "is a gzip archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(100), "is a zstd archive"),
    "tar": (b"model.safetensors".ljust(257, b"\0") + b"ustar\0" + bytes(300), "is a tar archive"),
    "an index": (b'{"metadata": {}, "weight_map": {"w": "m.safetensors"}}', "is an index of shards, not a tensor file"),
    "JSON": (b'{"architectures": []}', "is JSON text"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, "begins with the byte order mark"),
    "UTF-16": ("{}".encode("utf-16"), "UTF-16"),
    "a message": (b"Entry not found", "is a short text, 'Entry not found'"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a picture"),
    "nothing": (b"", NO + "it has 0 bytes"),
    "seven bytes": (b"\1" + bytes(6), NO + "it has 7 bytes"),
    "zeros": (bytes(4096), NO + "it begins with zeros"),
    "an empty header": (with_header(""), NO + "it begins with zeros"),
    "half of it": (GOOD[: len(GOOD) // 2], NO + "it is cut off: a header of"),
    "a last byte missing": (GOOD[:-1], NO + "it is cut off: tensor 'v' ends at byte"),
    "a byte too many": (GOOD + b"\0", NO + "1 bytes after its last tensor belong to none"),
    "an endless header": ((2**63 - 1).to_bytes(8, "little") + b"{}", NO + "its first 8 bytes announce a header of"),
    "a header beyond 100 MB": ((10**8 + 1).to_bytes(8, "little") + b"{}", "beyond the limit of 100 MB"),
    "a header with a mark": (with_header(b"\xef\xbb\xbf{}"), NO + "its header does not begin with"),
    "a header with a space": (with_header(b" {}"), NO + "its header does not begin with"),
    "no UTF-8": (with_header(b'{"\xff": 1}'), "is no UTF-8 text"),
    "no JSON": (with_header("{w}"), "is no readable JSON"),
    "cut JSON": (with_header('{"w": {"dtype": "F32"'), "is no readable JSON"),
    "NaN": (with_header('{"__metadata__": {"a": NaN}}'), "is no readable JSON: NaN is no JSON"),
    "a deep header": (with_header('{"a":' + "[" * 200_000), "nested too deep|is no readable JSON"),
    "a number of many digits": (with_header('{"a": ' + "9" * 10_000 + "}"), "is no readable JSON|needs dtype"),
    "a name twice": (with_header('{"w": 1, "w": 2}'), "has the key 'w' twice"),
    "metadata of numbers": (with_header('{"__metadata__": {"a": 1}}'), "__metadata__ must be texts"),
    "a list for a tensor": (with_header('{"w": [1]}'), r"needs dtype, shape and data_offsets, got \[1\]"),
    "no type": (header(dtype="left out"), "needs dtype, shape and data_offsets"),
    "no shape": (header(shape="left out"), "needs dtype, shape and data_offsets"),
    "another type": (header(dtype="F8_E3M4"), "is of type 'F8_E3M4'; the format has F64"),
    "a type that is none": (header(dtype=None), "is of type None"),
    "a negative shape": (header(shape=[-2]), r"has no shape: \[-2\]"),
    "a broken shape": (header(shape=[2.0]), r"has no shape: \[2\.0\]"),
    "true for a size": (header(shape=[True, 2]), r"has no shape: \[True, 2\]"),
    "a huge shape": (header(shape=[2**30, 2**28]), "takes .* bytes, and its data_offsets are 8 apart"),
    "more axes than arrays have": (header(shape=[1] * 40 + [2]), "has no shape"),
    "no elements of endless rows": (header(shape=[2**62, 0], data_offsets=[0, 0]), "has no shape"),
    "a shape beyond sizes": (header(shape=[2**64]), "has no shape"),
    "a shape that does not fit": (header(shape=[3]), "takes 12 bytes, and its data_offsets are 8 apart"),
    "half a byte": (header(dtype="F4", shape=[3]), r"takes 1\.5 bytes"),
    "offsets turned round": (header(data_offsets=[8, 0]), r"has no data_offsets: \[8, 0\]"),
    "one offset": (header(data_offsets=[8]), r"has no data_offsets: \[8\]"),
    "negative offsets": (header(data_offsets=[-8, 0]), "has no data_offsets"),
    "offsets beyond the file": (header(data_offsets=[8, 16]), "have 8 bytes between them"),
    "a tensor beyond the file": (header(shape=[4], data_offsets=[0, 16]), "it is cut off"),
    "overlap": (two((0, 10), (6, 16)), "tensors 'a' and 'b' overlap"),
    "the same bytes twice": (two((0, 16), (0, 16)), "tensors 'a' and 'b' overlap"),
    "a hole": (two((0, 6), (10, 16)), "tensors 'a' and 'b' have 4 bytes between them"),
    "a name to fool a terminal": (header(dtype="\x1b[31m"), r"is of type '\\x1b\[31m'"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_file_is_named_for_what_it_is(tmp_path, case):
    content, words = FILES[case]
    (tmp_path / "model.safetensors").write_bytes(content)
    for source in (tmp_path / "model.safetensors", tmp_path):
        with pytest.raises(ValueError, match=words) as refused:
            open_checkpoint(source)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 1000
        assert str(tmp_path / "model.safetensors") in str(refused.value)


def test_the_safetensors_package_refuses_what_is_refused_here_as_damaged(tmp_path):
    library = pytest.importorskip("safetensors")
    for case, (content, _) in FILES.items():
        if case in OURS:
            continue
        (tmp_path / "m.safetensors").write_bytes(content)
        with pytest.raises((library.SafetensorError, OSError)):
            library.safe_open(tmp_path / "m.safetensors", "numpy")


#: What the package takes: a header that does not begin with its brace, and sizes that are no array's.
OURS = ("a header with a space", "more axes than arrays have", "no elements of endless rows")
A = np.ones((2, 2), np.float32)


def an_index(folder, **weights):
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(
            {"metadata": {}, "weight_map": {name.replace(":", "."): file for name, file in weights.items()}}
        )
    )


def test_an_index_says_what_there_is_and_where(tmp_path):
    save(tmp_path / "a.safetensors", **{"one:weight": A})
    save(tmp_path / "sub" / "b.safetensors", **{"two:weight": 2 * A})
    save(tmp_path / "consolidated.safetensors", **{"one:weight": 3 * A})
    an_index(tmp_path, **{"one:weight": "a.safetensors", "two:weight": "sub/b.safetensors"})
    for source in (tmp_path, tmp_path / "model.safetensors.index.json", str(tmp_path)):
        checkpoint = open_checkpoint(source)
        assert checkpoint.names == ("one.weight", "two.weight")
        assert checkpoint.read("two.weight")[0, 0] == 2


def test_a_folder_without_an_index_is_all_of_its_files(tmp_path):
    save(tmp_path / "a.safetensors", one=A)
    save(tmp_path / "b.safetensors", two=A)
    assert open_checkpoint(tmp_path).names == ("one", "two")
    save(tmp_path / "c.safetensors", two=A)
    with pytest.raises(ValueError, match=r"tensor 'two' is in b\.safetensors and in c\.safetensors"):
        open_checkpoint(tmp_path)


INDEXES = {
    "not JSON": ("{", "is no readable JSON"),
    "a list": ("[]", "is no JSON object"),
    "a BOM": ('\ufeff{"weight_map": {}}', "byte order mark"),
    "no map": ('{"metadata": {}}', "has no weight_map"),
    "a map that is a list": ('{"weight_map": []}', "has no weight_map"),
    "an empty map": ('{"weight_map": {}}', "its weight_map is empty"),
    "a number for a shard": ('{"weight_map": {"w": 3}}', "the shard of 'w' must be the name of a file, got 3"),
    "a shard above": ('{"weight_map": {"w": "../m.safetensors"}}', r"is outside its folder: '\.\./m"),
    "a shard at the root": ('{"weight_map": {"w": "/etc/passwd"}}', "is outside its folder: '/etc/passwd'"),
    "a shard elsewhere": ('{"weight_map": {"w": "file:///etc/passwd"}}', "is outside its folder"),
    "a shard of Windows": ('{"weight_map": {"w": "..\\\\m"}}', "is outside its folder"),
    "a tensor that is not there": ('{"weight_map": {"x": "m.safetensors"}}', "holds no tensor 'x' as the index says"),
    "a tensor elsewhere": ('{"weight_map": {"v": "m.safetensors", "w": "m.safetensors", "u": "n.safetensors"}}', "'v'"),
    "a tensor twice": ('{"weight_map": {"w": "m.safetensors", "w": "m.safetensors"}}', "has the key 'w' twice"),
    "a pickle": ('{"weight_map": {"w": "pytorch_model.bin"}}', "looks like a pickle checkpoint"),
    "a Git LFS pointer": ("version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "HTML": ("<!doctype html>", "is a web page"),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXES)
def test_a_wrong_index_is_named_for_what_it_is(tmp_path, case):
    text, words = INDEXES[case]
    save(tmp_path / "m.safetensors", w=A)
    save(tmp_path / "n.safetensors", u=A)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as refused:
        open_checkpoint(tmp_path)
    assert "\n" not in str(refused.value)


def test_missing_shards_are_counted_and_named(tmp_path):
    save(tmp_path / "model-00002-of-00003.safetensors", w=A)
    words = r"is one of 3 shards, of which 2 are missing: model-00001-of-00003\.safetensors, model-00003"
    with pytest.raises(FileNotFoundError, match=words):
        open_checkpoint(tmp_path)
    an_index(tmp_path, w="model-00002-of-00003.safetensors", v="model-00001-of-00003.safetensors")
    with pytest.raises(FileNotFoundError, match="names 2 shards, of which 1 are missing: model-00001"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "model-00002-of-00003.safetensors").names == ("w",)


def test_a_folder_of_something_else_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match=r"holds no safetensors file$"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "model.safetensors.incomplete").touch()
    with pytest.raises(
        ValueError, match=r"it has pytorch_model\.bin, which are not read; model\.safetensors\.inc"
    ):
        open_checkpoint(tmp_path)


def test_of_several_indexes_one_is_named(tmp_path):
    save(tmp_path / "m.safetensors", w=A)
    for name in ("model.fp16", "model.ema"):
        (tmp_path / f"{name}.safetensors.index.json").write_text('{"weight_map": {"w": "m.safetensors"}}')
    with pytest.raises(ValueError, match=r"has 2 indexes; name one: model\.ema"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "model.ema.safetensors.index.json").names == ("w",)


def test_what_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    save(tmp_path / "model.safetensors", w=A)
    with pytest.raises(
        FileNotFoundError, match=r"no file .*modle.safetensors; near it are model.safetensors"
    ):
        open_checkpoint(tmp_path / "modle.safetensors")
    with pytest.raises(TypeError, match="the name of a file must be text or a Path, got 3"):
        open_checkpoint(3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of Unix")
def test_shards_that_never_end_are_refused(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is a device, a pipe or a socket"):
        open_checkpoint(tmp_path)
