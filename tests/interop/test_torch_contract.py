"""Behaviour that stays PyTorch's: errors, attributes, copies, calls that no kernel can run."""

import copy
import io
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad  # noqa: E402
from torch.nn.utils import parametrizations, prune, rnn  # noqa: E402
from torch_pairs import (  # noqa: E402
    CELLS,
    CLASSES,
    LAYERS,
    MARKS,
    assert_alike,
    assert_same,
    cell_kinds,
    layer_kinds,
    pair,
    tensors,
    uses_kernels,
)

from fastrnn.interop import torch as ours  # noqa: E402

pytestmark = MARKS


@pytest.mark.parametrize(("original", "own"), CLASSES)
def test_constructor_and_attributes(original, own):
    torch.manual_seed(0)
    theirs = original(3, 4, dtype=torch.float64)
    torch.manual_seed(0)
    module = own(3, 4, dtype=torch.float64)
    assert isinstance(module, original)
    assert repr(module) == repr(theirs)
    assert_same(list(module.parameters()), list(theirs.parameters()))
    assert list(module.state_dict()) == list(theirs.state_dict())
    assert module.load_state_dict(theirs.state_dict()).missing_keys == []
    own_attributes = {k for k in vars(module) if k not in vars(theirs)}
    assert own_attributes == set()


@pytest.mark.parametrize(("original", "own"), CLASSES[:3])
def test_constructor_errors(original, own):
    cases = [
        {"num_layers": 0},
        {"hidden_size": 0},
        {"hidden_size": 4.0},
        {"dropout": 1.5},
        {"bias": 1},
        {"proj_size": 9},
        {"nonlinearity": "sigmoid"},
    ]
    for options in cases:
        with pytest.raises((TypeError, ValueError)) as expected:
            original(**({"input_size": 3, "hidden_size": 4} | options))
        with pytest.raises(type(expected.value)) as actual:
            own(**({"input_size": 3, "hidden_size": 4} | options))
        assert str(actual.value) == str(expected.value)
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        own(3, 4, dropout=0.5)


def state(layer, *shapes):
    states = tuple(torch.zeros(shape, dtype=torch.float64) for shape in shapes)
    return states if isinstance(layer, (torch.nn.LSTM, torch.nn.LSTMCell)) else states[0]


BAD_LAYER_CALLS = {
    "input width": lambda layer: (torch.zeros(5, 2, 2, dtype=torch.float64),),
    "input axes": lambda layer: (torch.zeros(5, 2, 3, 1, dtype=torch.float64),),
    "one axis": lambda layer: (torch.zeros(3, dtype=torch.float64),),
    "input dtype": lambda layer: (torch.zeros(5, 2, 3),),
    "integers": lambda layer: (torch.zeros(5, 2, 3, dtype=torch.int64),),
    "no steps": lambda layer: (torch.zeros(0, 2, 3, dtype=torch.float64),),
    "no steps of one sequence": lambda layer: (torch.zeros(0, 3, dtype=torch.float64),),
    "another device": lambda layer: (torch.zeros(5, 2, 3, dtype=torch.float64, device="meta"),),
    "state batch": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 3, 4), (1, 3, 4)),
    ),
    "state width": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 2, 5), (1, 2, 5)),
    ),
    "state axes": lambda layer: (
        torch.zeros(5, 2, 3, dtype=torch.float64),
        state(layer, (1, 4), (1, 4)),
    ),
    "state axes of one sequence": lambda layer: (
        torch.zeros(5, 3, dtype=torch.float64),
        state(layer, (1, 1, 4), (1, 1, 4)),
    ),
    "packed width": lambda layer: (rnn.pack_sequence([torch.zeros(3, 2, dtype=torch.float64)]),),
    "array": lambda layer: (np.zeros((5, 2, 3)),),
    "nothing": lambda layer: (None,),
}
BAD_CELL_CALLS = {
    "input width": lambda cell: (torch.zeros(2, 2, dtype=torch.float64),),
    "input axes": lambda cell: (torch.zeros(1, 2, 3, dtype=torch.float64),),
    "input dtype": lambda cell: (torch.zeros(2, 3),),
    "input batch": lambda cell: (
        torch.zeros(1, 3, dtype=torch.float64),
        state(cell, (2, 4), (2, 4)),
    ),
    "state batch": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (1, 4), (2, 4)),
    ),
    "state width": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (2, 1), (2, 4)),
    ),
    "state axes": lambda cell: (
        torch.zeros(2, 3, dtype=torch.float64),
        state(cell, (1, 2, 4), (1, 2, 4)),
    ),
}


@pytest.mark.parametrize("case", BAD_LAYER_CALLS)
@layer_kinds
def test_layer_errors_are_pytorchs(kind, case):
    assert_same_error(*pair(kind, 3, 4), BAD_LAYER_CALLS[case])


@pytest.mark.parametrize("case", BAD_CELL_CALLS)
@cell_kinds
def test_cell_errors_are_pytorchs(kind, case):
    assert_same_error(*pair(kind, 3, 4, table=CELLS), BAD_CELL_CALLS[case])


def test_other_nonlinearity_of_a_cell_is_refused_when_it_is_called():
    _, cell = pair("RNN_TANH", 3, 4, table=CELLS, nonlinearity="softplus")
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: softplus"):
        cell(torch.zeros(2, 3, dtype=torch.float64))


def assert_same_error(theirs, accelerated, arguments):
    with pytest.raises(Exception) as expected:
        theirs(*arguments(theirs))
    with pytest.raises(type(expected.value)) as actual:
        accelerated(*arguments(accelerated))
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize(
    "sizes", [[2, 2], [1, 4], [3, 3], [0, 5], [5, -1, 1], [3, 3, -1], [], [3.0, 2.0], [[3, 2]]]
)
def test_sizes_that_do_not_fit_packed_rows_are_pytorchs(sizes):
    outcomes = []
    for layer in pair("GRU", 3, 4):
        data = torch.ones(5, 3, dtype=torch.float64)
        try:
            outcomes.append(layer(rnn.PackedSequence(data, torch.tensor(sizes)))[0].data.tolist())
        except Exception as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


def test_cells_take_any_bias_that_is_true():
    theirs, accelerated = pair("RNN_TANH", 3, 4, table=CELLS, bias="yes")
    assert_alike(theirs, accelerated, (torch.ones(2, 3, dtype=torch.float64),))


@pytest.mark.parametrize("missing", [[], ["bias_ih"], ["bias_ih", "bias_hh"]])
def test_biases_of_cells_are_those_that_are_there(missing):
    theirs, accelerated = pair("GRU", 3, 4, table=CELLS)
    for cell in (theirs, accelerated):
        cell.bias = False  # which PyTorch does not look at
        for name in missing:
            setattr(cell, name, None)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert_same([accelerated(x)], [theirs(x)])


@pytest.mark.parametrize(("table", "name"), [(LAYERS, "weight_hh_l0"), (CELLS, "weight_hh")])
def test_missing_weights_are_pytorchs_error(table, name):
    errors = []
    for module in pair("GRU", 3, 4, table=table):
        setattr(module, name, None)
        with pytest.raises(TypeError) as caught:
            module(torch.ones(2, 3, dtype=torch.float64))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_attributes_may_be_changed_afterwards():
    theirs, accelerated = pair("GRU", 3, 4, 2)
    for layer in (theirs, accelerated):
        layer.dropout = 0.5
        layer.batch_first = True
    assert_alike(theirs, accelerated, (torch.randn(2, 5, 3, dtype=torch.float64),))


@pytest.mark.parametrize("dropout", [1.5, -0.5, None])
def test_dropout_that_is_no_probability_is_pytorchs(dropout):
    theirs, accelerated = pair("GRU", 3, 4, 2)
    theirs.dropout = accelerated.dropout = dropout
    assert_same_error(theirs, accelerated, lambda _: (torch.zeros(5, 2, 3, dtype=torch.float64),))


@layer_kinds
def test_parameters_may_be_others_afterwards(kind):
    theirs, accelerated = pair(kind, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for layer in (theirs, accelerated):
        # One that is replaced, and one that is deleted and made again.
        layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
        weight = layer.weight_ih_l1
        del layer.weight_ih_l1
        layer.weight_ih_l1 = torch.nn.Parameter(2 * weight.detach())
    assert_alike(theirs, accelerated, (x,))
    assert accelerated._flat_weights[1] is accelerated.weight_hh_l0
    parts = [len(part) for part in accelerated.all_weights]
    assert parts == [len(theirs._flat_weights) // 4] * 4
    for layer in (theirs, accelerated):
        state = {name: 2 * p for name, p in layer.state_dict().items()}
        layer.load_state_dict(state, assign=True)
    assert_alike(theirs, accelerated, (x,))
    accelerated.share_memory()
    assert accelerated.flatten_parameters() is None
    assert all(p.is_shared() for p in accelerated._flat_weights)
    assert_alike(theirs, accelerated, (x,))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, "pickle", "save"])
def test_copies(make):
    _, layer = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    expected = tensors(layer(x))
    if make == "pickle":
        copied = pickle.loads(pickle.dumps(layer))
    elif make == "save":
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    else:
        copied = make(layer)
    assert type(copied) is ours.LSTM
    assert uses_kernels(copied(x))
    assert_same(tensors(copied(x)), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "parametrise",
    [
        lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
        lambda layer: torch.nn.utils.weight_norm(layer, "weight_hh_l0"),
        lambda layer: prune.l1_unstructured(layer, "weight_ih_l0", 0.5),
    ],
    ids=["parametrization", "weight norm", "pruning"],
)
def test_weights_that_are_computed(parametrise):
    theirs, accelerated = pair("LSTM", 3, 4)
    parametrise(theirs)
    parametrise(accelerated)
    assert_alike(theirs, accelerated, (torch.randn(5, 2, 3, dtype=torch.float64),))


def test_functional_call():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    doubled = {name: 2 * p for name, p in theirs.named_parameters()}
    for parameters in (doubled, {}):  # and back to the module's own
        actual, expected = (
            torch.func.functional_call(m, parameters, (x,)) for m in (accelerated, theirs)
        )
        assert uses_kernels(actual)
        assert_same(tensors(actual), tensors(expected))


@pytest.fixture
def no_kernels(monkeypatch):
    """Fail where the kernels are used."""

    def refuse(call, tensors):
        raise AssertionError("the kernels ran")

    monkeypatch.setattr(ours, "run", refuse)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_other_dtypes_are_pytorchs(dtype):
    theirs, accelerated = pair("RNN_TANH", 3, 4, dtype=dtype)
    x = torch.ones(5, 2, 3, dtype=dtype)
    outputs = []
    for layer in (theirs, accelerated):
        try:
            outputs.append(layer(x)[0])
        except RuntimeError as error:
            outputs.append(str(error))
    if isinstance(outputs[0], str):
        assert outputs[0] == outputs[1]
    else:
        assert torch.equal(*outputs)


@pytest.mark.usefixtures("no_kernels")
@cell_kinds
def test_empty_cells_are_pytorchs(kind):
    for sizes, B in (((3, 0), 2), ((0, 4), 2), ((3, 4), 0)):
        theirs, accelerated = pair(kind, *sizes, table=CELLS)
        x = torch.zeros(B, sizes[0], dtype=torch.float64)
        assert_same(tensors(accelerated(x)), tensors(theirs(x)))


@cell_kinds
def test_steps_of_cells_that_are_too_small_to_gain_are_pytorchs(kind, runs, monkeypatch):
    theirs, accelerated = pair(kind, 3, 4, table=CELLS)
    gates = len(theirs.weight_hh) // 4
    monkeypatch.setattr(ours, "FLOPS_A_STEP", 2 * 2 * gates * 4 * (3 + 4))
    for leading, count in (((), 0), ((1,), 0), ((2,), 1)):
        x = torch.randn(*leading, 3, dtype=torch.float64)
        assert_same(tensors(accelerated(x)), tensors(theirs(x)))
        assert len(runs) == count


@pytest.mark.usefixtures("no_kernels")
def test_empty_batches_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.zeros(5, 0, 3, dtype=torch.float64)
    assert_same(tensors(accelerated(x)), tensors(theirs(x)))


@pytest.mark.usefixtures("no_kernels")
def test_meta_tensors_are_pytorchs():
    _, layer = pair("GRU", 3, 4, device="meta")
    output, h = layer(torch.zeros(5, 2, 3, dtype=torch.float64, device="meta"))
    assert (output.shape, h.shape, output.device.type) == ((5, 2, 4), (1, 2, 4), "meta")


@pytest.mark.usefixtures("no_kernels")
def test_autocast_is_pytorchs():
    theirs, accelerated = pair("RNN_TANH", 3, 4, dtype=torch.float32)
    x = torch.ones(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(accelerated(x)[0], theirs(x)[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.usefixtures("no_kernels")
def test_transforms_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4)
    x = torch.ones(5, 2, 3, dtype=torch.float64)

    def gradients(layer):
        parameters = dict(layer.named_parameters())
        return torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,))[0].sum())(
            parameters
        )

    assert_same(list(gradients(accelerated).values()), list(gradients(theirs).values()))
    with forward_ad.dual_level():
        tangents = [
            forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))[0]).tangent
            for layer in (accelerated, theirs)
        ]
    assert_same(tangents[:1], tangents[1:])


@pytest.mark.usefixtures("no_kernels")
def test_tensors_that_a_graph_may_not_keep_are_pytorchs():
    with torch.inference_mode():
        x = torch.ones(2, 5, 3, dtype=torch.float64)
    assert_same_error(*pair("GRU", 3, 4), lambda _: (x,))
    gradients = []
    for layer in pair("GRU", 3, 4, batch_first=True):  # PyTorch copies these
        layer(x)[0].sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    assert_same(*gradients)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_pytorchs():
    theirs, accelerated = pair("GRU", 3, 4, batch_first=True)
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], dtype=torch.float64)
    assert_same_error(theirs, accelerated, lambda _: (x,))


@pytest.mark.usefixtures("no_kernels")
def test_classes_of_tensors_are_pytorchs():
    class Marked(torch.Tensor):
        pass

    _, layer = pair("GRU", 3, 4)
    output, _ = layer(torch.ones(5, 2, 3, dtype=torch.float64).as_subclass(Marked))
    assert type(output) is Marked


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self.part._flat_weights")
@pytest.mark.parametrize("kind", ["script", "trace", "fx", "compile", "export"])
@pytest.mark.parametrize("cell", [False, True])
def test_compilers_see_pytorchs_module(kind, cell):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.GRUCell(3, 4) if cell else torch.nn.GRU(3, 4)

        def forward(self, x):
            return self.part(x)

    torch.manual_seed(0)
    model = ours.accelerate(Model())
    x = torch.randn(2, 3) if cell else torch.randn(5, 2, 3)
    compiled = {
        "script": lambda: torch.jit.script(model),
        "trace": lambda: torch.jit.trace(model, (x,)),
        "fx": lambda: torch.fx.symbolic_trace(model),
        "compile": lambda: torch.compile(model, backend="eager"),
        "export": lambda: torch.export.export(model, (x,)).module(),
    }[kind]()
    assert_same(tensors(compiled(x)), tensors(model(x)))
    if kind == "fx":
        assert [n.op for n in compiled.graph.nodes] == ["placeholder", "call_module", "output"]
    if kind in ("script", "trace"):
        # Parameters are shared, not copied.
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        assert_same(tensors(compiled(x)), tensors(model(x)))


@layer_kinds
def test_tracing_a_layer_itself_is_pytorchs_error(kind):
    errors = []
    for layer in pair(kind, 3, 4):
        with pytest.raises(torch.fx.proxy.TraceError) as raised:
            torch.fx.symbolic_trace(layer)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "LSTMCell"])
def test_a_traced_state_beside_a_tensor_is_a_node(kind):
    """As where a decoder begins with a start token of its own."""

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = getattr(torch.nn, kind)(3, 4)
            self.register_buffer(
                "start", torch.zeros(2, 3) if "Cell" in kind else torch.zeros(1, 2, 3)
            )

        def forward(self, h):
            return self.part(self.start, (h, h) if kind.startswith("LSTM") else h)[0]

    model = ours.accelerate(Decoder())
    traced = torch.fx.symbolic_trace(model)
    h = torch.ones(2, 4) if "Cell" in kind else torch.ones(1, 2, 4)
    assert "call_module" in [node.op for node in traced.graph.nodes]
    assert_same(tensors(traced(h)), tensors(model(h)))
