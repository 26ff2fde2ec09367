"""What PyTorch's own tests of its recurrent modules check, on ours.

Inputs and expectations are those of PyTorch's table of modules, `module_db`, which its generic
module tests run down; the checks here have those tests' names. The second part has a check for each
recurrent test of PyTorch's ``test_nn`` that ``test_torch.py`` does not have.
"""

import copy
import io
import itertools
import pickle
from functools import partial

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's testing package needs it

from functorch.compile import aot_module, nop  # noqa: E402
from torch._subclasses import FakeTensorMode  # noqa: E402
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.nn.utils import rnn  # noqa: E402
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads  # noqa: E402
from torch.testing import assert_close  # noqa: E402
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db  # noqa: E402
from torch.testing._internal.common_utils import noncontiguous_like  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fastrnn.interop import torch as ours  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

OURS = ours._REPLACEMENTS
INFOS = {info.name: info for info in module_db if info.module_cls in OURS}
DTYPES = {"float32": torch.float32, "float64": torch.float64}

infos = pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
dtypes = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def samples(info, dtype, training=True, requires_grad=False):
    """Yield a module of ours, the arguments of a call, and PyTorch's reference or None."""
    torch.manual_seed(0)
    options = {} if info.module_cls is torch.nn.LSTM else {"with_packed_sequence": True}
    for sample in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training, **options
    ):
        made = sample.constructor_input
        module = OURS[info.module_cls](*made.args, **made.kwargs).to(dtype).train(training)
        yield module, sample.forward_input.args, sample.reference_fn


def is_packed(arguments):
    return isinstance(arguments[0], rnn.PackedSequence)


def flat(values):
    """Return the tensors in nested outputs or arguments."""
    return [t for t in tree_flatten(values)[0] if isinstance(t, torch.Tensor)]


def original(module):
    """Return a copy that is PyTorch's module."""
    module = copy.deepcopy(module)
    module.__class__ = ours._ORIGINALS[type(module)]
    return module


@pytest.fixture(autouse=True)
def calls(runs):
    """Count the calls that our kernels have run."""
    return runs


def test_all_six_modules_are_in_the_table():
    assert {info.module_cls for info in INFOS.values()} == set(OURS)


@infos
@dtypes
@modes
def test_forward(info, dtype, training, calls):
    for module, arguments, reference in samples(info, dtype, training):
        outputs = module(*arguments)
        assert len(calls) == 1
        assert_close(outputs, original(module)(*arguments))
        if reference is not None and not is_packed(arguments):
            assert_close(outputs, reference(module, *arguments))
        calls.clear()


@infos
@dtypes
def test_factory_kwargs(info, dtype):
    for device in ("cpu", "meta"):
        for sample in info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=False, training=True
        ):
            made = sample.constructor_input
            options = {**made.kwargs, "device": device, "dtype": dtype}
            module = OURS[info.module_cls](*made.args, **options)
            assert {p.dtype for p in module.parameters()} == {dtype}
            assert {p.device.type for p in module.parameters()} == {device}


@infos
def test_device_ctx_init(info):
    with torch.device("meta"):
        module = OURS[info.module_cls](2, 3)
    assert {p.device.type for p in module.parameters()} == {"meta"}


@infos
@dtypes
def test_repr(info, dtype):
    for module, _, _ in samples(info, dtype):
        assert repr(module) == str(module) == repr(original(module))


@infos
@dtypes
@modes
@pytest.mark.parametrize("way", ["pickle", "save", "deepcopy"])
def test_pickle_and_save_load(info, dtype, training, way):
    for module, arguments, _ in samples(info, dtype, training):
        if way == "pickle":
            loaded = pickle.loads(pickle.dumps(module))
        elif way == "save":
            file = io.BytesIO()
            torch.save(module, file)
            file.seek(0)
            loaded = torch.load(file, weights_only=False)
        else:
            loaded = copy.deepcopy(module)
        assert type(loaded) is type(module)
        assert loaded.training is training
        torch.testing.assert_close(loaded(*arguments), module(*arguments), rtol=0, atol=0)


@infos
@dtypes
@modes
def test_non_contiguous_tensors(info, dtype, training, calls):
    for module, arguments, _ in samples(info, dtype, training, requires_grad=True):
        if is_packed(arguments):
            continue
        expected = module(*arguments)
        d_expected = run_backward(module, arguments, expected)
        count = len(flat(arguments))
        for which in itertools.product([False, True], repeat=count):
            chosen = iter(which)
            others = tree_map_only(
                torch.Tensor, lambda t, c=chosen: strided(t) if next(c) else own_leaf(t), arguments
            )
            outputs = module(*others)
            assert_close(outputs, expected)
            assert_close(run_backward(module, others, outputs), d_expected)
        assert len(calls) == 1 + 2**count
        calls.clear()


def strided(tensor):
    return noncontiguous_like(tensor.detach()).requires_grad_()


def own_leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def run_backward(module, arguments, outputs):
    leaves = [*flat(arguments), *module.parameters()]
    outputs = flat(outputs)
    return torch.autograd.grad(outputs, leaves, [torch.ones_like(t) for t in outputs])


@pytest.mark.slow  # a minute; ``test_torch.py`` has fewer sizes
@infos
@modes
@pytest.mark.parametrize("check", [gradcheck, partial(gradgradcheck, fast_mode=True)])
def test_grad_and_gradgrad(info, training, check):
    """Inputs and parameters are varied together."""
    for module, arguments, _ in samples(info, torch.float64, training, requires_grad=True):
        names, parameters = zip(*module.named_parameters())
        packed = is_packed(arguments)
        leaves, spec = ([arguments[0].data], None) if packed else tree_flatten(arguments)

        def call(*tensors, module=module, names=names, arguments=arguments, spec=spec):
            given, weights = tensors[: -len(names)], dict(zip(names, tensors[-len(names) :]))
            if spec is None:
                given = (rnn.PackedSequence(*given, *arguments[0][1:]),)
            else:
                given = tree_unflatten(given, spec)
            output, *state = torch.func.functional_call(module, weights, given)
            return tuple(flat([output.data if spec is None else output, state]))

        assert check(call, (*leaves, *parameters))


@infos
@dtypes
def test_if_train_and_eval_modes_differ(info, dtype):
    for module, arguments, _ in samples(info, dtype):
        assert_close(module.train()(*arguments), module.eval()(*arguments), rtol=0, atol=0)


@infos
@dtypes
def test_memory_format(info, dtype):
    for module, arguments, _ in samples(info, dtype):
        expected = module(*arguments)
        module.to(memory_format=torch.channels_last)
        assert_close(module(*arguments), expected, rtol=0, atol=0)


@infos
@pytest.mark.parametrize("swap", [False, True])
@torch.no_grad()  # parameters that a graph holds cannot be swapped
def test_to_and_to_empty(info, swap, calls, monkeypatch):
    conversion = torch.__future__
    monkeypatch.setattr(conversion, "_swap_module_params_on_conversion", swap)
    for module, arguments, _ in samples(info, torch.float32):
        if is_packed(arguments):
            continue
        arguments = tree_map_only(torch.Tensor, lambda t: t.double(), arguments)
        module.to(torch.float64)
        expected = module(*arguments)
        assert {t.dtype for t in flat(expected)} == {torch.float64}
        state = {name: t.clone() for name, t in module.state_dict().items()}
        module.to("meta")
        assert {p.device.type for p in module.parameters()} == {"meta"}
        module.to_empty(device="cpu")
        for name, parameter in module.named_parameters():
            parameter.copy_(state[name])
        assert_close(module(*arguments), expected, rtol=0, atol=0)
        assert len(calls) == 2
        calls.clear()


@infos
@dtypes
def test_errors(info, dtype, calls):
    errors = info.module_error_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=False, training=True
    )
    assert errors
    for error in errors:
        sample = error.module_error_input
        made, given = sample.constructor_input, sample.forward_input
        make = partial(OURS[info.module_cls], *made.args, **made.kwargs)
        if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                make()
        else:
            module = make()
            with pytest.raises(error.error_type, match=error.error_regex):
                module(*given.args, **given.kwargs)
    assert not calls


@pytest.mark.parametrize("kind", [ours.RNN, ours.LSTM, ours.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
@pytest.mark.parametrize("packed", [False, True])
def test_expanded_weights(kind, options, packed):
    """Gradients of each sample, which PyTorch takes by tensors of a class of its own."""
    layer = kind(3, 4, batch_first=True, dtype=torch.float64, **options)
    x = torch.randn(2, 5, 3, dtype=torch.float64)

    def loss(output):
        return (output[0].data if packed else output[0]).square().sum()

    def arguments(x, lengths):
        if not packed:
            return x
        return rnn.pack_padded_sequence(x, lengths, batch_first=True)

    per_sample = call_for_per_sample_grads(layer, batch_size=2)
    loss(per_sample(arguments(x, [5, 3]))).backward()
    for name, parameter in layer.named_parameters():
        for k, length in enumerate((5, 3)):
            alone = original(layer)
            loss(alone(arguments(x[k : k + 1], [length]))).backward()
            assert_close(parameter.grad_sample[k], alone.get_parameter(name).grad)


def outcome(call):
    """Return what a call returns, or what it raises."""
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def ensemble(layer, x):
    stacked = {name: torch.stack([p, 2 * p]) for name, p in layer.named_parameters()}
    call = partial(torch.func.functional_call, layer)
    return torch.vmap(call, in_dims=(0, None), randomness="same")(stacked, (x,))


def gradients_of_samples(layer, x):
    def loss(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,))[0].square().sum()

    parameters = dict(layer.named_parameters())
    return torch.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)


def fake(layer, x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return list(layer(mode.from_tensor(x))[0].shape)


def batched_gradients(layer, x):
    output = layer(x)[0]
    basis = torch.eye(output.numel(), dtype=x.dtype).reshape(-1, *output.shape)
    return torch.autograd.grad(output, list(layer.parameters()), basis, is_grads_batched=True)


def vmap_of_grad(layer, x):
    output = layer(x)[0]
    basis = torch.eye(output.numel(), dtype=x.dtype).reshape(-1, *output.shape)
    leaves = list(layer.parameters())
    return torch.vmap(lambda d: torch.autograd.grad(output, leaves, d))(basis)


def flops(layer, x):
    loss = layer(x)[0].sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    return counter.get_total_flops() > 0, [p.grad for p in layer.parameters()]


TRANSFORMS = {
    "vmap over inputs": lambda layer, x: torch.vmap(lambda x: layer(x)[0], in_dims=1)(x),
    "vmap over parameters": ensemble,
    "gradients of samples": gradients_of_samples,
    "jvp": lambda layer, x: torch.func.jvp(lambda x: layer(x)[0], (x,), (x,)),
    "jacrev": lambda layer, x: torch.func.jacrev(lambda x: layer(x)[0])(x),
    "hessian": lambda layer, x: torch.func.hessian(lambda x: layer(x)[0].sum())(x),
    "make_fx": lambda layer, x: make_fx(lambda x: layer(x)[0])(x)(x),
    "aot": lambda layer, x: aot_module(copy.deepcopy(layer), nop)(x),
    "fake": fake,
    "Hessian": lambda layer, x: torch.autograd.functional.hessian(
        lambda x: layer(x)[0].square().sum(), x
    ),
    "vectorised Jacobian": lambda layer, x: torch.autograd.functional.jacobian(
        lambda x: layer(x)[0], x, vectorize=True
    ),
    "vectorised Hessian": lambda layer, x: torch.autograd.functional.hessian(
        lambda x: layer(x)[0].square().sum(), x, vectorize=True
    ),
    "batched gradients": batched_gradients,
    "vmap of grad": vmap_of_grad,
    "flops": flops,
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("kind", [ours.RNN, ours.LSTM, ours.GRU])
def test_transforms(kind, transform):
    """A result, or an error, is PyTorch's."""
    layer = kind(2, 3, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64)
    actual, expected = (outcome(lambda m=m: transform(m, x)) for m in (layer, original(layer)))
    if isinstance(expected, tuple) and isinstance(expected[0], type):
        assert actual == expected
    else:
        assert_close(actual, expected)


# ------------------------------------------------------------------------------- tests of test_nn

LAYERS = {
    "RNN": ours.RNN,
    "LSTM": ours.LSTM,
    "LSTM projected": partial(ours.LSTM, proj_size=2),
    "GRU": ours.GRU,
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def zero_state(layer, B):
    passes = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.zeros(passes, B, layer.proj_size or layer.hidden_size)
    return (h, torch.zeros(passes, B, layer.hidden_size)) if layer.mode == "LSTM" else h


@layers
@pytest.mark.parametrize("bidirectional", [False, True])
def test_initial_hidden_state(make, bidirectional):
    layer = make(3, 4, 2, bidirectional=bidirectional)
    x = torch.randn(5, 2, 3)
    assert_close(layer(x), layer(x, zero_state(layer, 2)), rtol=0, atol=0)


@pytest.mark.parametrize("make", [ours.RNN, ours.GRU])
def test_projections_are_refused(make):
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        make(3, 4, proj_size=2)


def test_nonlinearity_passed_as_arg():
    layer = ours.RNN(2, 3, 1, "relu")
    assert (layer.mode, layer.nonlinearity) == ("RNN_RELU", "relu")
    x = torch.randn(5, 2, 2)
    assert_close(layer(x), original(layer)(x))


@layers
def test_sequences_without_steps_are_refused(make):
    for shape in ((0, 2, 3), (0, 3)):
        with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0"):
            make(3, 4)(torch.zeros(shape))


@layers
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout(make, p):
    """Full dropout leaves the biases; none in `eval`, and `dropout` may change between calls."""
    layer = make(3, 4, 2, dropout=p)
    x = torch.randn(5, 2, 3)
    first, second = layer(x)[0], layer(x)[0]
    assert torch.equal(first, second) == (p in (0.0, 1.0))
    layer.eval()
    expected = layer(x)[0]
    assert torch.equal(layer(x)[0], expected)
    layer.train().dropout = 0.0
    assert torch.equal(layer(x)[0], expected)
    torch.manual_seed(1)
    layer.dropout = 0.5
    actual = layer(x)[0]
    torch.manual_seed(1)
    assert_close(actual, original(layer)(x)[0])


@layers
def test_retain_variables(make):
    layer = make(3, 4, 2)
    x = torch.randn(5, 2, 3, requires_grad=True)
    output = layer(x)[0]
    leaves = [x, *layer.parameters()]
    first, second = (
        torch.autograd.grad(output.sum(), leaves, retain_graph=True, allow_unused=True)
        for _ in range(2)
    )
    assert_close(second, first, rtol=0, atol=0)


@layers
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_variable_sequence(make, batch_first, bidirectional):
    """Packed sequences are each sequence by itself, forward and backward."""
    lengths = [3, 6, 1, 4]
    layer = make(3, 4, 2, bidirectional=bidirectional, batch_first=batch_first).double()
    sequences = [torch.randn(n, 3, dtype=torch.float64) for n in lengths]
    x = rnn.pad_sequence(sequences, batch_first=batch_first).requires_grad_()
    packed = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    output, state = layer(packed)
    output, found = rnn.pad_packed_sequence(output, batch_first)
    assert found.tolist() == lengths
    alone = [layer(sequence) for sequence in sequences]
    assert_close(output, rnn.pad_sequence([y for y, _ in alone], batch_first=batch_first))
    states = [torch.stack(s, dim=1) for s in zip(*[flat(final) for _, final in alone])]
    assert_close(flat(state), states)
    gradients = torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    again = [s.detach().requires_grad_() for s in sequences]
    loss = sum(layer(s)[0].square().sum() for s in again)
    expected = torch.autograd.grad(loss, [*again, *layer.parameters()])
    d_x = rnn.pad_sequence(expected[: len(again)], batch_first=batch_first)
    assert_close(gradients, (d_x, *expected[len(again) :]))


@pytest.mark.parametrize("wanted", [0, 1])
def test_cell_backward_of_one_output(wanted):
    cell = ours.LSTMCell(3, 4).double()
    theirs = original(cell)
    x = torch.randn(2, 3, dtype=torch.float64)
    for module in (cell, theirs):
        state = module(x)
        module(x, state)[wanted].sum().backward()
    assert_close(*[[p.grad for p in module.parameters()] for module in (cell, theirs)])


@pytest.mark.parametrize("kind", [ours.RNNCell, ours.LSTMCell, ours.GRUCell])
@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (0, 0)])
def test_cells_without_inputs_or_units(kind, sizes):
    cell = kind(*sizes)
    x = torch.randn(2, sizes[0])
    assert_close(cell(x), original(cell)(x))


@pytest.mark.parametrize("kind", [ours.RNNCell, ours.LSTMCell, ours.GRUCell])
def test_cells_do_not_broadcast(kind):
    """A batch of one state or input does not stand for several."""
    cell = kind(3, 4)
    for B_x, B_h in ((2, 1), (1, 2)):
        h = torch.zeros(B_h, 4)
        with pytest.raises(RuntimeError, match="batch size"):
            cell(torch.zeros(B_x, 3), (h, h) if kind is ours.LSTMCell else h)


def test_other_nonlinearity_of_a_cell_is_refused_when_it_is_called():
    cell = ours.RNNCell(3, 4, nonlinearity="softplus")
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: softplus"):
        cell(torch.zeros(2, 3))


@layers
def test_weights_on_another_device_are_refused_as_pytorchs(make):
    layer = make(3, 4)
    with pytest.raises(Exception) as expected:
        original(layer)(torch.zeros(5, 2, 3, device="meta"))
    with pytest.raises(type(expected.value)) as actual:
        layer(torch.zeros(5, 2, 3, device="meta"))
    assert str(actual.value) == str(expected.value)


@layers
def test_flat_weights(make):
    layer = make(3, 4, 2, bidirectional=True)
    parameters = list(layer.parameters())
    assert all(a is b for a, b in zip(layer._flat_weights, parameters, strict=True))
    assert [len(part) for part in layer.all_weights] == [len(parameters) // 4] * 4
    assert layer.flatten_parameters() is None
    x = torch.randn(5, 2, 3)
    # A parameter that is replaced, and one that is deleted and made again.
    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
    assert layer._flat_weights[1] is layer.weight_hh_l0
    weight = layer.weight_ih_l1
    del layer.weight_ih_l1
    layer.weight_ih_l1 = torch.nn.Parameter(2 * weight.detach())
    assert_close(layer(x), original(layer)(x))
    layer.share_memory()
    assert all(p.is_shared() for p in layer._flat_weights)
    assert_close(layer(x), original(layer)(x))


@layers
def test_hooks_of_state_dict(make):
    layer, seen = make(3, 4), []
    layer.register_state_dict_pre_hook(lambda module, prefix, keep: seen.append("save"))
    layer.register_load_state_dict_post_hook(lambda module, keys: seen.append("load"))
    state = {name: 2 * t for name, t in layer.state_dict().items()}
    layer.load_state_dict(state)
    layer.load_state_dict(state, assign=True)
    assert seen == ["save", "load", "load"]
    x = torch.randn(5, 2, 3)
    assert_close(layer(x), original(layer)(x))
    with pytest.raises(RuntimeError, match="size mismatch for weight_hh_l0"):
        layer.load_state_dict(state | {"weight_hh_l0": torch.zeros(1, 1)})
    with pytest.raises(RuntimeError, match=r"Missing key.*bias_ih_l0"):
        layer.load_state_dict({n: t for n, t in state.items() if n != "bias_ih_l0"})
