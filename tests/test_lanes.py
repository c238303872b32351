"""Vector code as it is written: what the kernels compute with it is tested with the kernels."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("llvmlite")
import llvmlite
from llvmlite import binding, ir

from fp8sim._kernels.lanes import F32, I64, WIDTH, Array, Writer


def written(pointer: Any) -> str:
    """Write a function of one array that doubles WIDTH numbers and adds the first to each; return it parsed."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, I64]), "double")
    builder = ir.IRBuilder(function.append_basic_block())
    writer = Writer.__new__(Writer)
    writer.builder = builder
    array = Array(writer, function.args[0], F32, function.args[1])
    array.store(array.load() * 2.0 + array.load_one(I64(0)), I64(WIDTH))
    builder.ret_void()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    return str(parsed)


UNTYPED = pytest.param(
    ir.PointerType(),
    marks=pytest.mark.skipif(
        not getattr(llvmlite, "opaque_pointers_enabled", True), reason="this llvmlite types its pointers"
    ),
)


@pytest.mark.parametrize("pointer", [F32.as_pointer(), UNTYPED], ids=["typed", "untyped"])
def test_numbers_are_loaded_and_stored_through_a_pointer(pointer):
    text = written(pointer)
    assert text.count(f"load <{WIDTH} x float>") == text.count(f"store <{WIDTH} x float>") == 1
    assert text.count("load float") == 1
    assert text.count("getelementptr float") == 3
