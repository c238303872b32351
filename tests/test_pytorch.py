"""Emulated PyTorch modules: the same results, gradients and habits as the modules they stand in for."""

from __future__ import annotations

import copy
import io
import warnings

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from fp8sim import pytorch as emulated  # noqa: E402
from fp8sim.tensor_cores import promoted_matmul  # noqa: E402
from fp8sim.training import LinearGemms, get_training_recipe  # noqa: E402

pytestmark = pytest.mark.extra


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20_241_226)


def gradients(module, x, dy):
    """Return the output, and the gradients of the input and of every parameter."""
    module.zero_grad(set_to_none=True)
    x = x.detach().clone().requires_grad_()
    y = module(x)
    y.backward(dy)
    return y.detach(), x.grad, *(p.grad for p in module.parameters())


def assert_near(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


# --- one layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 7), (2, 0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fp32_recipe_equals_nn_linear_in_output_and_all_gradients(shape, bias):
    theirs = nn.Linear(7, 4, bias=bias)
    mine = emulated.convert(theirs, "fp32")
    x, dy = torch.randn(shape), torch.randn(*shape[:-1], 4)
    if x.numel():
        assert_near(gradients(mine, x, dy), gradients(theirs, x, dy))
    else:
        for found, expected in zip(gradients(mine, x, dy), gradients(theirs, x, dy), strict=True):
            torch.testing.assert_close(found, expected)


def test_gradcheck_agrees_with_finite_differences():
    # A linear layer has no curvature, so a large step costs nothing but FP32 rounding.
    gemms = LinearGemms(get_training_recipe("fp32"))
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 5), (4, 5), (4,)))
    assert torch.autograd.gradcheck(
        lambda *inputs: emulated.linear(*inputs, gemms), (x, w, b), eps=0.5, atol=1e-5, rtol=1e-5
    )


def test_deepseek_is_the_tensor_core_on_separately_quantised_operands_bit_for_bit():
    layer = emulated.Linear(256, 128, bias=False, recipe="deepseek-v3")
    x, dy = torch.randn(128, 256), 1e-3 * torch.randn(128, 128)
    y, dx, dw = (t.numpy() for t in gradients(layer, x, dy))

    def quantised(t, rows, columns):
        groups = t.reshape(t.shape[0] // rows, rows, t.shape[1] // columns, columns)
        scales = np.abs(groups).max(axis=(1, 3), keepdims=True) / np.float32(448)
        codes = (groups / scales).reshape(t.shape).astype(ml_dtypes.float8_e4m3fn)
        return codes, np.broadcast_to(scales, groups.shape).reshape(t.shape)

    def product(a, b):
        return promoted_matmul(
            a[0], b[0], "hopper-fp8", promote_every=128, a_scales=a[1][:, ::128], b_scales=b[1][::128]
        )

    def bf16(t):
        return t.astype(ml_dtypes.bfloat16).astype(np.float32)

    weights = quantised(layer.weight.detach().numpy(), 128, 128)
    inputs = quantised(x.numpy(), 1, 128)
    cached = inputs[0].astype(np.float32) * inputs[1]
    transposed = tuple(part.T for part in weights)
    np.testing.assert_array_equal(y, bf16(product(inputs, transposed)))
    np.testing.assert_array_equal(dx, bf16(product(quantised(dy.numpy(), 1, 128), weights)))
    left = tuple(part.T for part in quantised(dy.numpy(), 128, 1))
    np.testing.assert_array_equal(dw, product(left, quantised(cached, 128, 1)))


def test_a_batch_is_a_matrix_of_its_tokens():
    layer = emulated.Linear(256, 64)
    x, dy = torch.randn(2, 3, 4, 256), torch.randn(2, 3, 4, 64)
    folded = gradients(layer, x.reshape(24, 256), dy.reshape(24, 64))
    batched = gradients(layer, x, dy)
    assert batched[0].shape == (2, 3, 4, 64)
    for mine, theirs in zip(batched, folded, strict=True):
        assert torch.equal(mine.reshape(theirs.shape), theirs)


def test_strided_inputs_give_the_same_bits():
    layer = emulated.Linear(96, 32, bias=False)  # PyTorch sums the gradient of a bias in memory order
    x, dy = torch.randn(96, 40), torch.randn(32, 40)
    for mine, theirs in zip(
        gradients(layer, x.t(), dy.t()),
        gradients(layer, x.t().contiguous(), dy.t().contiguous()),
        strict=True,
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp8-delayed", "deepseek-v3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_outputs_and_gradients_have_the_dtypes_of_nn_linear(name, dtype):
    theirs = nn.Linear(16, 8, dtype=dtype)
    x, dy = torch.randn(4, 16, dtype=dtype), torch.randn(4, 8, dtype=dtype)
    for mine, reference in zip(
        gradients(emulated.convert(theirs, name), x, dy), gradients(theirs, x, dy), strict=True
    ):
        assert mine.dtype == reference.dtype
        assert mine.shape == reference.shape


def test_bfloat16_tensors_are_taken_exactly():
    layer = emulated.Linear(64, 32, recipe="bf16").to(torch.bfloat16)
    wide = copy.deepcopy(layer).float()
    x = torch.randn(4, 64, dtype=torch.bfloat16)
    assert torch.equal(layer(x).float(), wide(x.float()))


def test_autocast_makes_the_output_narrow_and_leaves_gradients_wide():
    theirs = nn.Linear(64, 32)
    mine = emulated.convert(theirs, "bf16")
    x = torch.randn(4, 64, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, reference = mine(x), theirs(x)
        mixed = mine(x.to(torch.bfloat16))
    assert y.dtype == reference.dtype == mixed.dtype == torch.bfloat16
    torch.testing.assert_close(y, reference, rtol=0.02, atol=0.02)
    y.float().sum().backward()
    assert x.grad.dtype == mine.weight.grad.dtype == torch.float32


def test_no_grad_and_frozen_parameters_save_work_and_give_the_same_output():
    layer = emulated.Linear(64, 32)
    x = torch.randn(4, 64)
    with torch.no_grad():
        quiet = layer(x)
    assert not quiet.requires_grad
    assert torch.equal(quiet, layer(x))
    counters = layer.measure()["weight"]
    layer.weight.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert layer.weight.grad is None
    assert counters.gemms["wgrad"].elements == 0
    assert counters.gemms["dgrad"].elements > 0
    with torch.inference_mode():
        assert torch.equal(layer(x), quiet)


def test_only_the_last_layer_of_a_frozen_input_does_no_dgrad():
    layer = emulated.Linear(64, 32)
    counters = layer.measure()["weight"]
    layer(torch.randn(4, 64)).sum().backward()
    assert counters.gemms["dgrad"].elements == 0
    assert counters.gemms["wgrad"].elements == 4 * (64 + 32)


def test_tensors_are_viewed_not_copied(monkeypatch):
    seen = {}
    forward = LinearGemms.forward

    def watch(self, x, w, bias=None, **options):
        seen.update(x=x, w=w)
        return forward(self, x, w, bias, **options)

    monkeypatch.setattr(LinearGemms, "forward", watch)
    layer, x = emulated.Linear(64, 32), torch.randn(4, 64)
    layer(x)
    assert np.shares_memory(seen["x"], x.numpy())
    assert np.shares_memory(seen["w"], layer.weight.detach().numpy())


def test_an_input_changed_in_place_before_the_backward_pass_is_noticed():
    layer, x = emulated.Linear(8, 8, recipe="fp8-row"), torch.randn(4, 8)
    y = layer(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("recipe", ["fp32", "deepseek-v3"])
@pytest.mark.parametrize("what", ["input", "weight"])
def test_what_is_viewed_until_the_backward_pass_must_not_change(recipe, what):
    layer = emulated.Linear(4, 3, recipe=recipe)
    z = torch.randn(2, 4, requires_grad=True)
    h = z * 2
    y = layer(h)
    (h if what == "input" else layer.weight.detach()).zero_()
    if recipe == "fp32":
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
    else:  # codes of its own
        y.sum().backward()
        assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_emulated_products(dtype):
    layer, x = emulated.Linear(64, 64, recipe="fp32"), torch.randn(8, 64)
    with torch.autocast("cpu", dtype=dtype):
        y = layer(x)
        layer.measure(sqnr=True)
        y.float().sum().backward()
    torch.testing.assert_close(y, layer(x).to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand(64, 64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 0), (0, 0), (2, 3, 0)])
def test_a_layer_without_inputs_gives_its_bias(shape):
    layer = emulated.Linear(1, 2, recipe="fp32")
    layer.weight = nn.Parameter(torch.zeros(2, 0))
    y = layer(torch.zeros(shape))
    torch.testing.assert_close(y, layer.bias.expand(*shape[:-1], 2))
    y.sum().backward()
    assert layer.weight.grad.shape == (2, 0)


def test_a_second_derivative_is_refused():
    x = torch.randn(4, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(emulated.Linear(8, 8)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# --- what modules are used for ----------------------------------------------------------------------------


def test_state_dicts_go_back_and_forth():
    theirs = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    mine = emulated.convert(copy.deepcopy(theirs), "mxfp8")
    assert list(mine.state_dict()) == list(theirs.state_dict())
    other = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    mine.load_state_dict(other.state_dict())
    assert torch.equal(mine[2].weight, other[2].weight)
    theirs.load_state_dict(mine.state_dict())
    assert torch.equal(theirs[0].bias, other[0].bias)


def test_a_delayed_state_dict_brings_its_amax_histories():
    layer = emulated.Linear(8, 4, recipe="fp8-delayed")
    for _ in range(2):
        layer(torch.randn(3, 8, requires_grad=True)).sum().backward()
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    fresh = emulated.Linear(8, 4, recipe="fp8-delayed")
    fresh.load_state_dict(torch.load(saved))
    x = torch.randn(3, 8)
    assert fresh.gemms["weight"].delayed.history[2, 1] == 1  # the gradient of a sum
    assert torch.equal(fresh(x), layer(x))
    fresh.load_state_dict(nn.Linear(8, 4).state_dict())  # nothing about histories: they stay
    assert fresh.gemms["weight"].delayed.history.any()
    with pytest.raises(
        ValueError, match=r"amax_history has shape \(1, 2, 5\), the recipe needs \(1, 3, 1024\)"
    ):
        fresh.load_state_dict({**fresh.state_dict(), "amax_history": torch.zeros(1, 2, 5)})


def test_evaluation_does_not_move_delayed_scales():
    layer = emulated.Linear(8, 4, recipe="fp8-delayed")
    layer.eval()(torch.randn(3, 8))
    layer.train()
    with torch.no_grad():
        layer(torch.randn(3, 8))
    assert not layer.gemms["weight"].delayed.history.any()


def test_a_deep_copy_goes_its_own_way():
    layer = emulated.Linear(8, 4, recipe="fp8-delayed")
    twin = copy.deepcopy(layer)
    layer(torch.randn(3, 8))
    assert not twin.gemms["weight"].delayed.history.any()
    assert twin.recipe == layer.recipe
    twin.weight.data.zero_()
    assert layer.weight.any()


def test_a_whole_model_can_be_saved():
    model = emulated.convert(nn.Sequential(nn.Linear(8, 4)), "deepseek-v3")
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    x = torch.randn(2, 8)
    assert torch.equal(torch.load(saved, weights_only=False)(x), model(x))


def test_torch_compile_leaves_the_inside_uncompiled_and_says_why_where_it_may_not():
    model = emulated.convert(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), "deepseek-v3")
    x = torch.randn(2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its compiler
        torch._dynamo.reset()
        assert torch.equal(torch.compile(model, backend="eager")(x), model(x))
        torch._dynamo.reset()
        with pytest.raises(Exception, match=r"torch\.compile cannot trace: compile without"):
            torch.compile(model, backend="eager", fullgraph=True)(x)


@pytest.mark.parametrize(
    ("x", "weight", "error", "match"),
    [
        (torch.zeros(2, 3, device="meta"), torch.zeros(4, 3), RuntimeError, r"x is on meta: move .* with .cpu\(\)"),
        (torch.zeros(2, 3, dtype=torch.int32), torch.zeros(4, 3), TypeError, "x is torch.int32; pass dense float32"),
        (torch.zeros(2, 3), torch.zeros(4, 3, dtype=torch.float64), TypeError, "the dtypes differ"),
        (torch.zeros(2, 3).to_sparse(), torch.zeros(4, 3), TypeError, "x is torch.sparse_coo; pass dense"),
        (torch.zeros(2, 3), torch.zeros(3, 4), ValueError, r"x \(2, 3\) and weight \(3, 4\) do not multiply"),
        (torch.full((2, 3), torch.nan), torch.zeros(4, 3), ValueError, "x holds 6 NaN or infinite values"),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_said(x, weight, error, match):
    with pytest.raises(error, match=match):
        emulated.linear(x, weight, None, LinearGemms(get_training_recipe("deepseek-v3")))


# --- conversion -------------------------------------------------------------------------------------------


def test_convert_leaves_the_model_and_shares_its_parameters():
    theirs = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    mine = emulated.convert(theirs, "bf16")
    assert [type(m) for m in theirs] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(m) for m in mine] == [emulated.Linear, nn.ReLU, emulated.Linear]
    assert all(p is q for p, q in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert not mine.training
    assert list(emulated.emulated_layers(mine)) == ["0", "2"]


def test_a_layer_used_twice_stays_one_layer():
    shared = nn.Linear(8, 8)
    mine = emulated.convert(nn.ModuleList([shared, shared, nn.Linear(8, 8)]), "bf16")
    assert mine[0] is mine[1]
    assert mine[0] is not mine[2]


def test_hooks_survive():
    theirs, calls = nn.Linear(8, 4), []
    theirs.register_forward_hook(lambda *_: calls.append(1))
    emulated.convert(theirs, "bf16")(torch.randn(2, 8))
    assert calls == [1]


class Gpt(nn.Module):
    """Names and tied weights as language models have them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.gate = nn.Linear(8, 2)
        self.gate_proj = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 16)
        self.decoder = nn.Linear(8, 16, bias=False)
        self.decoder.weight = self.embed.weight


def test_heads_routers_and_tied_weights_are_kept_and_the_report_says_why():
    done = emulated.conversion(emulated.convert(Gpt()))
    assert done.replaced == {"gate_proj": "Linear 8x8"}
    assert done.kept == {
        "gate": "skipped by name",
        "lm_head": "skipped by name",
        "decoder": "shares its weight with the embedding embed",
    }
    assert "gate_proj" in str(done)
    assert "<table>" in done._repr_html_()


def test_skip_takes_patterns_and_callables():
    model = nn.ModuleDict(
        {"a": nn.Linear(4, 4), "b": nn.ModuleDict({"c": nn.Linear(4, 4), "d": nn.Linear(4, 4)})}
    )
    by_name = emulated.conversion(emulated.convert(model, skip=["b.*"]))
    assert list(by_name.replaced) == ["a"]
    by_last_part = emulated.conversion(emulated.convert(model, skip=["c"]))
    assert list(by_last_part.replaced) == ["a", "b.d"]
    by_call = emulated.conversion(emulated.convert(model, skip=lambda name, module: name == "a"))
    assert by_call.kept == {"a": "skipped by the caller"}


def test_what_is_no_plain_linear_layer_is_kept():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    computed = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    done = emulated.conversion(emulated.convert(nn.ModuleList([Doubled(4, 4), computed, nn.Linear(4, 4)])))
    assert done.kept == {
        "0": "a subclass with its own forward, Doubled",
        "1": "its weight is computed (a parametrisation)",
    }
    biased = nn.ModuleList([nn.MultiheadAttention(8, 2, add_bias_kv=True), nn.Linear(4, 4)])
    assert emulated.conversion(emulated.convert(biased)).kept == {
        "0": "attention with add_bias_kv or add_zero_attn"
    }


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: emulated.convert(nn.ReLU()), ValueError, "no linear layer was left to convert"),
        (lambda: emulated.convert(nn.Linear(4, 4), "deepseek"), ValueError, "did you mean 'deepseek-v3'"),
        (
            lambda: emulated.convert(nn.Linear(4, 4), "deepseek-v3-stochastic-gradients"),
            TypeError,
            "pass rng=",
        ),
        (lambda: emulated.conversion(nn.Linear(4, 4)), ValueError, "no result of fp8sim.pytorch.convert"),
    ],
)
def test_a_conversion_that_cannot_be_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_a_forward_that_was_replaced_on_the_instance_is_kept():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].forward = lambda x: x
    assert emulated.conversion(emulated.convert(model)).kept == {
        "1": "its forward was replaced on the instance"
    }


def test_one_text_is_no_list_of_patterns():
    with pytest.raises(TypeError, match=r"write \['gate'\]"):
        emulated.convert(nn.Sequential(nn.Linear(8, 8)), skip="gate")


def test_converting_again_changes_the_recipe_of_nothing_that_is_emulated():
    model = emulated.convert(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), "bf16", skip=["1"])
    again = emulated.convert(model, "mxfp8")
    assert [layer.recipe.name for layer in again] == ["bf16", "mxfp8"]


# --- models that this project did not write ---------------------------------------------------------------


@pytest.fixture
def encoder():
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


MASKS = {
    "none": {},
    "padding": {"src_key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2])},
    "causal": {"mask": nn.Transformer.generate_square_subsequent_mask(6), "is_causal": True},
    "boolean": {"mask": torch.ones(6, 6, dtype=torch.bool).triu(1)},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_encoder_gives_the_same_in_fp32(encoder, mask, training):
    mine, x = emulated.convert(encoder, "fp32").train(training), torch.randn(2, 6, 32)
    encoder.train(training)
    with torch.set_grad_enabled(training), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of nested tensors
        found, expected = mine(x, **MASKS[mask]), encoder(x, **MASKS[mask])
    if mask == "padding":  # what is at padded places does not matter
        found, expected = found[:, :4], expected[:, :4]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_transformer_encoder_trains_under_deepseek(encoder):
    mine = emulated.convert(encoder, "deepseek-v3")
    counters = [c for m in emulated.emulated_layers(mine).values() for c in m.measure().values()]
    assert len(counters) == 2 * 4  # in and out projection, and two linear layers
    x = torch.randn(2, 6, 32)
    y = mine(x)
    distance = (y - encoder(x)).norm() / encoder(x).norm()
    assert 0.001 < distance < 0.1
    y.square().sum().backward()
    assert all(p.grad is not None for p in mine.parameters())
    assert all(c.gemms["wgrad"].elements for c in counters)


def test_evaluation_uses_no_fused_kernel_of_pytorch(encoder):
    mine = emulated.convert(encoder, "deepseek-v3").eval()
    counters = [c for m in emulated.emulated_layers(mine).values() for c in m.measure().values()]
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    with torch.inference_mode():
        mine(torch.randn(2, 6, 32), src_key_padding_mask=padding)
    assert all(c.gemms["fprop"].elements for c in counters)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"kdim": 12, "vdim": 20}, {"bias": False}])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("call", [{}, {"average_attn_weights": False}, {"need_weights": False}])
def test_attention_gives_the_same_in_fp32(options, batched, call):
    theirs = nn.MultiheadAttention(16, 4, **options)
    mine = emulated.convert(theirs, "fp32")
    first = options.get("batch_first", False)
    sizes = (16, options.get("kdim", 16), options.get("vdim", 16))
    query, key, value = (
        torch.randn(*((3, n) if first else (n, 3)) if batched else (n,), size)
        for n, size in zip((5, 7, 7), sizes, strict=True)
    )
    for found, expected in zip(
        mine(query, key, value, **call), theirs(query, key, value, **call), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_takes_a_mask_per_head():
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    mask = torch.randn(3 * 4, 5, 5)
    x = torch.randn(3, 5, 16)
    found, expected = (
        emulated.convert(theirs, "fp32")(x, x, x, attn_mask=mask),
        theirs(x, x, x, attn_mask=mask),
    )
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)


def test_causal_attention_needs_its_mask():
    x = torch.randn(3, 5, 16)
    with pytest.raises(RuntimeError, match="pass the mask too"):
        emulated.convert(nn.MultiheadAttention(16, 4), "fp32")(x, x, x, is_causal=True)


def bert():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=50, **sizes))


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16,
                                     bos_token_id=0, eos_token_id=0)  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def llama():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=50, **sizes))


@pytest.mark.parametrize(("make", "layers"), [(bert, 2 * 6 + 0), (gpt2, 2 * 4), (llama, 2 * 7)])
@pytest.mark.filterwarnings("ignore")
def test_models_of_a_library_convert_run_and_train(make, layers):
    model = make().eval()
    ids = torch.randint(0, 50, (2, 9))
    same = emulated.convert(model, "fp32")
    done = emulated.conversion(same)
    assert len(done.replaced) == layers
    assert done.kept
    torch.testing.assert_close(same(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-5)
    mine = emulated.convert(model, "deepseek-v3")
    result = mine(ids, labels=ids)
    assert not torch.equal(result.logits, model(ids).logits)
    result.loss.backward()
    for layer in emulated.emulated_layers(mine).values():
        assert layer.weight.grad.any()
