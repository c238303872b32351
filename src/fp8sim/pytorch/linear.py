"""A linear layer whose three products run through fp8sim, as one autograd function."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fp8sim._support import checks
from fp8sim._support.typing import F32, AnyArray, FloatArray
from fp8sim.quantization import Quantized
from fp8sim.training import LinearGemms

__all__ = ["linear", "multiply"]

_CANNOT_TRACE = (
    "fp8sim's products are numpy and numba code, which torch.compile cannot trace: "
    "compile without fullgraph=True, or leave the converted model uncompiled"
)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, gemms: LinearGemms, training: bool = True
) -> Tensor:
    """Return ``x @ weight.T + bias`` as `gemms` computes it, and its gradients alike.

    Parameters
    ----------
    x : (..., in) Tensor
        On the CPU: float32, bfloat16, float16 or float64.
    weight : (out, in) Tensor
        Of the dtype of `x`, except under autocast.
    bias : (out,) Tensor, optional
        Added before the result is rounded.
    gemms : LinearGemms
        The recipe, with its counters and amax histories.
    training : bool
        Whether delayed scaling remembers this step.

    Returns
    -------
    (..., out) Tensor
        In the dtype of `x`, or of autocast. Values are rounded to the recipe's output format first.

    Raises
    ------
    RuntimeError
        If a tensor is not on the CPU, or the call is being compiled.
    TypeError
        If the dtypes differ or are no such floats.
    ValueError
        If the shapes do not multiply, or an operand that is scaled holds NaN or infinity.

    Examples
    --------
    >>> import torch
    >>> from fp8sim.training import get_training_recipe
    >>> x, w = torch.ones(2, 5, 3), torch.ones(4, 3, requires_grad=True)
    >>> y = linear(x, w, None, LinearGemms(get_training_recipe("fp32")))
    >>> y.shape
    torch.Size([2, 5, 4])
    >>> y.sum().backward()
    >>> w.grad[0]
    tensor([10., 10., 10.])
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(_CANNOT_TRACE)
    out_dtype = _check(x, weight, bias)
    arguments = (x, weight, bias, gemms, training and torch.is_grad_enabled(), out_dtype)
    if "torch._dynamo" in sys.modules:  # else nothing can be compiling, and importing it takes a second
        return _uncompiled()(*arguments)
    return _Linear.apply(*arguments)


class _Linear(torch.autograd.Function):
    """Fprop forward, Dgrad and Wgrad backward; tensors are viewed by numpy, not copied."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gemms: LinearGemms, training: bool,
        out_dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        shape = x.shape
        flat = x.reshape(math.prod(shape[:-1]), shape[-1])
        inputs, weights = _array(flat), _array(weight)
        vector = None if bias is None else _array(bias)
        y, saved = gemms.forward(inputs, weights, vector, training=training)
        # What the saved arrays view must live on, and must not be written to before the backward pass.
        kept_x = x if saved.original_x is not None or _views(saved.x, inputs) else None
        kept_w = weight if saved.original_w is not None or _views(saved.w, weights) else None
        ctx.save_for_backward(kept_x, kept_w)
        ctx.saved, ctx.gemms, ctx.shape = saved, gemms, shape
        ctx.dtypes = (x.dtype, weight.dtype, None if bias is None else bias.dtype)
        return _tensor(y, out_dtype).reshape(*shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018  (raises if one of them was modified in place)
        need_x, need_w, need_bias = ctx.needs_input_grad[:3]
        x_dtype, w_dtype, bias_dtype = ctx.dtypes
        flat = dy.reshape(math.prod(dy.shape[:-1]), dy.shape[-1])
        dx, dw = ctx.gemms.backward(_array(flat), ctx.saved, dgrad=need_x, wgrad=need_w)
        return (
            None if dx is None else _tensor(dx, x_dtype).reshape(ctx.shape),
            None if dw is None else _tensor(dw, w_dtype),
            flat.sum(0, dtype=torch.float32).to(bias_dtype) if need_bias else None,
            None,
            None,
            None,
        )


def multiply(a: F32, b: F32) -> F32:
    """Multiply two float32 matrices by PyTorch's BLAS and threads.

    Examples
    --------
    >>> import numpy as np
    >>> multiply(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))
    array([[2.]], dtype=float32)
    """
    with torch.autocast("cpu", enabled=False):
        product: F32 = torch.mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return product


def _views(saved: Quantized | None, array: AnyArray) -> bool:
    """Whether codes are the memory of a tensor, as FP32 codes can be."""
    return saved is not None and np.may_share_memory(saved.codes, array)


@functools.cache
def _uncompiled() -> Callable[..., Tensor]:
    """Return the function such that torch.compile, at work around it, does not reach into it."""
    apply: Callable[..., Tensor] = torch.compiler.disable(_Linear.apply, reason=_CANNOT_TRACE)
    return apply


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype:
    """Refuse what numpy cannot view, and return the dtype of the result."""
    tensors = [("x", x), ("weight", weight), *([] if bias is None else [("bias", bias)])]
    for name, tensor in tensors:
        if tensor.device.type != "cpu":
            raise RuntimeError(
                f"fp8sim emulates on the CPU, but {name} is on {tensor.device}: "
                "move model and batch there with .cpu()"
            )
        if tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
            kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
            raise TypeError(f"{name} is {kind}; pass dense float32, bfloat16, float16 or float64 tensors")
    if x.dim() == 0 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x {tuple(x.shape)} and weight {tuple(weight.shape)} do not multiply: the last axis of x must "
            "be in_features, the second of weight"
        )
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    if len({tensor.dtype for _, tensor in tensors}) > 1:
        dtypes = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors)
        raise TypeError(f"the dtypes differ ({dtypes}); convert one, or use torch.autocast('cpu')")
    return x.dtype


def _array(x: Tensor) -> FloatArray:
    """View a tensor as numpy; the 16-bit formats become float32, since numpy has no products of them."""
    return checks.as_float(x)


def _tensor(x: AnyArray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(x).to(dtype)
