import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from fp8sim.checkpoints.tensors import read_array, read_tensor, tensor_names
from fp8sim.experiments.data import weight_matrices

safetensors = pytest.importorskip("safetensors.numpy")


def write(path, kind, shape, data, **others):
    """Write a safetensors file by the format's own description, without the library."""
    header = {"w": {"dtype": kind, "shape": list(shape), "data_offsets": [0, len(data)]}}
    end = len(data)
    for name, (kind2, shape2, data2) in others.items():
        header[name] = {"dtype": kind2, "shape": list(shape2), "data_offsets": [end, end + len(data2)]}
        data, end = data + data2, end + len(data2)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("F32", np.float32),
        ("F16", np.float16),
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    ],
)
def test_every_float_type_is_read_exactly(tmp_path, kind, dtype):
    values = np.array([[1.5, -0.25, 0.0], [448.0, 2.0**-9, -1.0]]).astype(dtype)
    file = write(tmp_path / "m.safetensors", kind, values.shape, values.tobytes())
    read = read_tensor(file, "w")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))


@pytest.mark.parametrize(("kind", "value"), [("F64", 1e300), ("F64", 1 + 2.0**-52), ("I32", 2**31 - 1)])
def test_no_digit_of_a_tensor_is_lost(tmp_path, kind, value):
    values = np.array([value], {"F64": np.float64, "I32": np.int32}[kind])
    file = write(tmp_path / "m.safetensors", kind, (1,), values.tobytes())
    assert read_tensor(file, "w").tolist() == [value]


def test_what_cannot_be_read_without_loss_is_refused(tmp_path):
    values = np.array([2**60 + 1])
    file = write(tmp_path / "m.safetensors", "I64", (1,), values.tobytes())
    with pytest.raises(ValueError, match=r"w holds 1152921504606846977 \(int64\), which float64 cannot hold"):
        read_tensor(file, "w")
    file = write(tmp_path / "m.safetensors", "F4", (4,), bytes(2))
    with pytest.raises(
        ValueError, match="tensor 'w' is of type F4, codes packed into bytes: not read so far"
    ):
        read_tensor(file, "w")


def test_text_in_place_of_an_array_is_refused_without_advice_to_run_it(tmp_path):
    (tmp_path / "x.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"is no readable \.npy file of numbers") as caught:
        read_array(tmp_path / "x.npy")
    assert "pickle" not in str(caught.value)


def test_deepseeks_block_scales_are_multiplied_in(tmp_path, rng):
    codes = rng.standard_normal((200, 300)).astype(ml_dtypes.float8_e4m3fn)
    scales = rng.uniform(0.5, 2, (2, 3)).astype(np.float32)
    file = write(
        tmp_path / "m.safetensors", "F8_E4M3", codes.shape, codes.tobytes(),
        w_scale_inv=("F32", scales.shape, scales.tobytes()),
    )  # fmt: skip
    want = codes.astype(np.float32) * np.kron(scales, np.ones((128, 128), np.float32))[:200, :300]
    np.testing.assert_array_equal(read_tensor(file, "w"), want)


def test_block_scales_of_a_wrong_shape_are_refused(tmp_path):
    codes = np.ones((200, 300), np.uint8).tobytes()
    file = write(
        tmp_path / "m.safetensors", "F8_E4M3", (200, 300), codes,
        w_scale_inv=("F32", (1, 3), np.ones(3, np.float32).tobytes()),
    )  # fmt: skip
    with pytest.raises(ValueError, match="not one scale per 128x128"):
        read_tensor(file, "w")


def test_names_and_shapes_are_listed(tmp_path):
    safetensors.save_file({"b": np.ones((2, 3)), "a": np.ones(4)}, tmp_path / "m.safetensors")
    assert tensor_names(tmp_path / "m.safetensors") == {"a": (4,), "b": (2, 3)}


def test_a_file_whose_header_length_begins_like_a_pickle_is_read(tmp_path):
    for size in range(200):  # header lengths 0x80 and 0x180 are among these
        path = tmp_path / f"{size}.safetensors"
        safetensors.save_file({"w" * (size + 1): np.ones(1)}, path)
        assert len(tensor_names(path)) == 1


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"no file .*modle.safetensors; near it are model.safetensors"
    ):
        read_tensor(tmp_path / "modle.safetensors", "w")


def test_a_missing_tensor_is_refused_with_close_names(tmp_path):
    safetensors.save_file(
        {"layer.0.weight": np.ones(1), "layer.1.weight": np.ones(1)}, tmp_path / "m.safetensors"
    )
    with pytest.raises(
        ValueError, match=r"no tensor 'layer.0.wieght' among its 2; close names: layer.0.weight"
    ):
        read_tensor(tmp_path / "m.safetensors", "layer.0.wieght")


@pytest.mark.parametrize("name", ["m.pt", "m.bin", "m.safetensors"])
def test_a_pickle_is_refused_and_never_loaded(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="looks like a pickle checkpoint"):
        read_tensor(tmp_path / name, "w")


def test_a_torch_archive_is_refused_whatever_it_is_called(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.safetensors", "w") as archive:
        archive.writestr("data.pkl", b"")
    with pytest.raises(ValueError, match="looks like a pickle checkpoint"):
        read_tensor(tmp_path / "m.safetensors", "w")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x10" + b"\0" * 7 + b"{"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="no readable safetensors file"):
        read_tensor(tmp_path / "m.safetensors", "w")


def test_a_truncated_file_is_refused(tmp_path):
    safetensors.save_file({"w": np.ones((64, 64))}, tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="no readable safetensors file"):
        read_tensor(tmp_path / "m.safetensors", "w")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_tensor(tmp_path, "w")


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
