import json
import pickle

import ml_dtypes
import numpy as np
import pytest

from fp8sim.checkpoints import open_checkpoint, read_array
from fp8sim.experiments.data import weight_matrices
from tensor_files import fp8, save, with_header
from tensor_files import safetensors as file_of

safetensors = pytest.importorskip("safetensors.numpy")


KINDS = [
    ("F32", np.float32), ("F16", np.float16), ("BF16", ml_dtypes.bfloat16), ("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    ("I8", np.int8), ("U8", np.uint8), ("I16", np.int16), ("U16", np.uint16), ("BOOL", np.bool_),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_every_plain_type_is_read_exactly_and_by_rows(tmp_path, kind, dtype):
    values = np.array([1, 0, 64, 2, 1, 127]).astype(np.float32).astype(dtype)
    (tmp_path / "m.safetensors").write_bytes(file_of({"w": (kind, values)}))
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    read = checkpoint.read("w")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))
    np.testing.assert_array_equal(checkpoint.read("w", slice(2, -1)), read[2:-1])
    raw = checkpoint.read("w", raw=True)
    assert (raw.dtype, raw.tobytes()) == (values.dtype, values.tobytes())


FP8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]


@pytest.mark.parametrize("name", FP8)
def test_raw_gives_every_fp8_code_in_its_own_type(tmp_path, name):
    codes = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, name)).reshape(16, 16)
    file = save(tmp_path / "m.safetensors", w=codes)
    raw = open_checkpoint(file).read("w", (3, 5), raw=True)
    assert raw.dtype == codes.dtype
    np.testing.assert_array_equal(raw.view(np.uint8), codes[3:5].view(np.uint8))


@pytest.mark.parametrize(
    ("kind", "bits", "dtype"),
    [
        ("F4", 4, ml_dtypes.float4_e2m1fn),
        ("F6_E2M3", 6, ml_dtypes.float6_e2m3fn),
        ("F6_E3M2", 6, ml_dtypes.float6_e3m2fn),
    ],
)
def test_codes_smaller_than_a_byte_are_unpacked_from_any_row_on(tmp_path, rng, kind, bits, dtype):
    codes = rng.integers(0, 2**bits, (8, 7))
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes.ravel()))  # of all the bits in a row
    data = number.to_bytes(codes.size * bits // 8, "little")
    header = {"w": {"dtype": kind, "shape": [8, 7], "data_offsets": [0, len(data)]}}
    (tmp_path / "m.safetensors").write_bytes(with_header(json.dumps(header), data))
    checkpoint = open_checkpoint(tmp_path)
    for start in range(8):
        raw = checkpoint.read("w", (start, 8), raw=True)
        assert raw.dtype == dtype
        np.testing.assert_array_equal(raw.view(np.uint8), codes[start:])
    with pytest.raises(
        ValueError, match=f"w .{kind} 8x7. cannot be read as values: its scales were not found"
    ):
        checkpoint.read("w")


@pytest.mark.parametrize(("kind", "value"), [("F64", 1e300), ("F64", 1 + 2.0**-52), ("I32", 2**31 - 1)])
def test_no_digit_of_a_tensor_is_lost(tmp_path, kind, value):
    file = save(tmp_path / "m.safetensors", w=np.array([value], {"F64": np.float64, "I32": np.int32}[kind]))
    assert open_checkpoint(file).read("w").tolist() == [value]


def test_what_cannot_be_read_without_loss_is_refused(tmp_path):
    file = save(tmp_path / "m.safetensors", w=np.array([2**60 + 1]), c=np.ones(2, np.complex64))
    with pytest.raises(ValueError, match=r"w holds 1152921504606846977 \(int64\), which float64 cannot hold"):
        open_checkpoint(file).read("w")
    with pytest.raises(ValueError, match="complex numbers are no weights"):
        open_checkpoint(file).read("c")


def test_the_safetensors_package_and_this_reader_agree(tmp_path, rng):
    arrays = {
        "b": rng.standard_normal((2, 3)),
        "a": rng.standard_normal(4).astype(np.float16),
        "n": np.array(3),
    }
    safetensors.save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np"})
    checkpoint = open_checkpoint(tmp_path)
    assert {one.name: (one.shape, one.nbytes) for one in checkpoint} == {
        name: (x.shape, x.nbytes) for name, x in sorted(arrays.items())
    }
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)


def test_a_checkpoint_shows_what_it_holds(tmp_path, rng):
    save(
        tmp_path / "m.safetensors",
        **{
            "q:weight": np.ones((256, 128), ml_dtypes.float8_e4m3fn),
            "q:weight_scale_inv": np.ones((2, 1), np.float32),
        },
        norm=np.ones(128, ml_dtypes.bfloat16),
    )
    checkpoint = open_checkpoint(tmp_path)
    assert (len(checkpoint), checkpoint.layout, checkpoint.nbytes) == (2, "deepseek", 256 * 128 + 8 + 256)
    assert "q.weight_scale_inv" in checkpoint
    assert "q.bias" not in checkpoint
    lines = repr(checkpoint).splitlines()
    assert lines[0].endswith(": 2 tensors, 33.03 kB")
    assert lines[-2].split() == ["e4m3", "128x128", "fp32", "deepseek", "1", "32.77", "k", "32.78", "kB"]
    assert lines[-1].split() == ["bf16", "-", "-", "plain", "1", "128", "256", "B"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((0, 5), "rows 0 to 5 are not in tensor 'w', which has 4"), ((-1, 2), "rows -1 to 2"), ((3, 2), "rows 3 to 2"),
        (slice(0, 4, 2), "leave out the step 2"), (range(4, 0, -1), "leave out the step -1"),
    ],
)  # fmt: skip
def test_rows_that_are_not_there_are_refused(tmp_path, rows, words):
    file = save(tmp_path / "m.safetensors", w=np.ones((4, 2)), s=np.array(1.0))
    with pytest.raises(ValueError, match=words):
        open_checkpoint(file).read("w", rows)
    with pytest.raises(TypeError, match=r"rows must be a slice, a range or \(start, stop\), got 3"):
        open_checkpoint(file).read("w", 3)
    with pytest.raises(ValueError, match="is one number, without rows"):
        open_checkpoint(file).read("s", (0, 1))


def test_only_the_rows_that_are_asked_for_are_read(tmp_path, monkeypatch, rng):
    codes, scales = np.ones((512, 256), ml_dtypes.float8_e4m3fn), np.ones((4, 2), np.float32)
    checkpoint = open_checkpoint(
        save(tmp_path / "m.safetensors", **{"q:weight": codes, "q:weight_scale_inv": scales})
    )
    read = []
    whole = type(checkpoint._folder).read

    def noted(folder, name, start, stop):
        read.append(stop - start)
        return whole(folder, name, start, stop)

    monkeypatch.setattr(type(checkpoint._folder), "read", noted)
    checkpoint.read("q.weight", (250, 260))
    assert sorted(read) == [2 * 2 * 4, 10 * 256]


def test_a_tensor_larger_than_memory_is_refused_and_read_by_rows(tmp_path):
    header = {"w": {"dtype": "F32", "shape": [2**38, 1], "data_offsets": [0, 2**40]}}
    content = with_header(json.dumps(header))
    with (tmp_path / "m.safetensors").open("wb") as stream:  # a sparse file
        stream.write(content)
        try:
            stream.truncate(len(content) + 2**40)
        except OSError:
            pytest.skip("no sparse files of this size here")
    checkpoint = open_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"tensor w takes .* of memory, and there are"):
        checkpoint.read("w")
    assert checkpoint.read("w", (2**38 - 2, 2**38)).tolist() == [[0], [0]]


def test_rows_of_nothing_are_read_at_once(tmp_path):
    header = {"w": {"dtype": "F16", "shape": [2**50, 0], "data_offsets": [0, 0]}}
    (tmp_path / "m.safetensors").write_bytes(with_header(json.dumps(header)))
    assert open_checkpoint(tmp_path).read("w").shape == (2**50, 0)


def test_two_that_would_unpack_to_one_name_keep_their_own(tmp_path):
    x = np.ones((2, 2), np.float32)
    file = save(tmp_path / "m.safetensors", **{"q:weight": x, "q:weight_packed": np.zeros((2, 2), np.uint8)})
    assert open_checkpoint(file).names == ("q.weight", "q.weight_packed")


def test_files_behind_a_url_are_read(tmp_path, rng):
    fsspec = pytest.importorskip("fsspec")
    x = rng.standard_normal((6, 4)).astype(np.float32)
    file = save(tmp_path / "m" / "model.safetensors", w=x)
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {
            f"/here/{file.name}": file.read_bytes(),
            "/lfs/m.safetensors": b"version https://git-lfs.github.com/spec/v1",
        }
    )
    try:
        for source in (
            f"file://{file}",
            f"file://{file.parent}",
            "memory://here",
            "memory://here/model.safetensors",
        ):
            checkpoint = open_checkpoint(source)
            assert checkpoint.source == source
            np.testing.assert_array_equal(checkpoint.read("w", (1, 3)), x[1:3])
        with pytest.raises(FileNotFoundError, match="no file or folder memory://there"):
            open_checkpoint("memory://there")
        with pytest.raises(ValueError, match=r"memory://lfs/m\.safetensors is a Git LFS pointer"):
            open_checkpoint("memory://lfs")
        with pytest.raises(ValueError, match=r"nosuch://x cannot be read: Protocol not known"):
            open_checkpoint("nosuch://x")
    finally:
        memory.rm("/here", recursive=True)
        memory.rm("/lfs", recursive=True)


def test_a_checkpoint_can_be_sent_to_another_process(tmp_path):
    checkpoint = open_checkpoint(save(tmp_path / "m.safetensors", w=np.ones((4, 2), np.float32)))
    assert pickle.loads(pickle.dumps(checkpoint)).read("w").sum() == 8


def test_a_file_that_became_shorter_is_refused(tmp_path):
    file = save(tmp_path / "m.safetensors", w=np.ones((4, 2), np.float32))
    checkpoint = open_checkpoint(file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match="became shorter while it was read"):
        checkpoint.read("w")


def test_a_file_whose_header_length_begins_like_a_pickle_is_read(tmp_path):
    for size in range(200):  # header lengths 0x80 and 0x180 are among these
        path = tmp_path / f"{size}.safetensors"
        safetensors.save_file({"w" * (size + 1): np.ones(1)}, path)
        assert len(open_checkpoint(path)) == 1


def test_a_missing_tensor_is_refused_with_close_names(tmp_path):
    file = save(tmp_path / "m.safetensors", **{"layer:0:weight": np.ones(1), "layer:1:weight": np.ones(1)})
    with pytest.raises(
        ValueError, match=r"no tensor 'layer.0.wieght' among its 2; close names: layer.0.weight"
    ):
        open_checkpoint(file).read("layer.0.wieght")
    with pytest.raises(TypeError, match="the name of a tensor must be text, got 3"):
        open_checkpoint(file).read(3)


@pytest.mark.parametrize("name", ["m.pt", "m.bin", "m.safetensors"])
def test_a_pickle_is_refused_and_never_loaded(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="looks like a pickle checkpoint"):
        open_checkpoint(tmp_path / name)


def test_text_in_place_of_an_array_is_refused_without_advice_to_run_it(tmp_path):
    (tmp_path / "x.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"is no readable \.npy file of numbers") as caught:
        read_array(tmp_path / "x.npy")
    assert "pickle" not in str(caught.value)


def test_object_arrays_in_npy_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"no readable .npy file of numbers"):
        read_array(tmp_path / "x.npy")


def test_an_npz_archive_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(1))
    with pytest.raises(ValueError, match="archive of arrays"):
        read_array(tmp_path / "x.npz")


def test_a_vector_has_no_product():
    with pytest.raises(ValueError, match=r"tensor bias has shape \(3,\); a product needs a matrix"):
        weight_matrices(np.ones(3, np.float32), "bias")


@pytest.mark.parametrize("header", ["{'descr': '<f4", "{'descr': (", "\t {\n  3"])
def test_a_damaged_header_of_an_array_is_refused_in_one_line(tmp_path, header):
    content = header.ljust(117).encode() + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content)
    with pytest.raises(ValueError, match=r"is no readable \.npy file of numbers") as refused:
        read_array(tmp_path / "x.npy")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_scales_that_are_numbers_are_read_by_their_own_name(tmp_path, rng, kind):
    scales = rng.uniform(0.5, 2, (2, 3)).astype(kind)
    file = save(tmp_path / "m.safetensors", **{"q:weight": fp8(rng, 256, 384), "q:weight_scale_inv": scales})
    found = open_checkpoint(file).read("q.weight_scale_inv")
    np.testing.assert_array_equal(found, scales.astype(np.float32))
