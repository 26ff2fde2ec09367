"""Options of recurrent layers: their gradients, on every backend, and their documented effects."""

import copy
import pickle

import numpy as np
import pytest
from cases import LAYERS, as_tuple, random_call, run
from gradients import slope
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

import fastrnn as fr

T, B, I, H = 4, 3, 3, 4
LENGTHS = [2, 4, 0]

# Constructor, options, lengths. Those that are drawn are drawn alike in every call.
CASES = {
    "reverse": (fr.GRU, {"reverse": True, "num_layers": 2}, LENGTHS),
    "cell clip": (fr.LSTM, {"cell_clip": 0.2}, None),
    "variational": (fr.RNN, {"num_layers": 3, "dropout": 0.5, "variational": True}, LENGTHS),
    "recurrent dropout": (fr.LSTM, {"recurrent_dropout": 0.5, "bidirectional": True}, LENGTHS),
    "recurrent dropout, two products": (
        fr.GRU,
        {"recurrent_dropout": 0.5, "reset_after": False},
        LENGTHS,
    ),
    "recurrent dropout, direct part": (fr.GRU, {"recurrent_dropout": 0.5}, None),
    "zoneout": (fr.LSTM, {"zoneout": (0.3, 0.6), "num_layers": 2}, LENGTHS),
    "zoneout, projected": (fr.LSTM, {"zoneout": 0.4, "proj_size": 2}, None),
    "zoneout, direct part": (fr.GRU, {"zoneout": 0.4, "reverse": True}, LENGTHS),
    "learned state": (fr.LSTM, {"learned_state": True, "bidirectional": True}, LENGTHS),
    "everything": (
        fr.LSTM,
        {
            "layer_norm": True,
            "peepholes": True,
            "cell_clip": 0.5,
            "proj_size": 2,
            "num_layers": 2,
            "bidirectional": True,
            "dropout": 0.3,
            "variational": True,
            "recurrent_dropout": 0.3,
            "zoneout": (0.2, 0.4),
            "learned_state": True,
            "forget_bias": 1.0,
        },
        LENGTHS,
    ),
    "everything, coupled": (
        fr.LSTM,
        {
            "coupled": True,
            "peepholes": True,
            "cell_clip": 0.5,
            "reverse": True,
            "recurrent_dropout": 0.3,
            "zoneout": (0.2, 0.4),
            "learned_state": True,
        },
        LENGTHS,
    ),
}


def scramble(layer):
    """Move the parameters that begin alike."""
    rng = np.random.default_rng(9)
    for name, array in layer.parameters.items():
        if name.startswith(("gain", "bias_c", "h0", "c0")) or name == "bias_l0":
            array += 0.3 * rng.standard_normal(array.shape)
    return layer


@pytest.fixture
def make():
    """A constructor of a layer by the name of its case."""

    def make_layer(name, dtype="float64", seed=1):
        kind, options, lengths = CASES[name]
        return scramble(kind(I, H, dtype=dtype, seed=seed, **options)), lengths

    return make_layer


@pytest.mark.parametrize("name", CASES)
def test_central_differences(backend, make, name):
    layer, lengths = make(name)
    call = random_call(layer, T, B, lengths)
    if layer.learned_state:
        call = call._replace(state=None)
    start = layer.generator.bit_generator.state

    def loss():
        layer.generator.bit_generator.state = start
        output, state, _ = layer.vjp(call.x, call.state, call.lengths)
        pairs = [(output, call.d_output), *zip(as_tuple(state), as_tuple(call.d_state))]
        return sum(np.sum(array * d) for array, d in pairs)

    results = run(layer, call)
    arrays = {"d_x": call.x, **layer.parameters}
    if call.state is not None:
        arrays |= {f"d_state {k}": array for k, array in enumerate(as_tuple(call.state))}
    rng = np.random.default_rng(3)
    for key, array in arrays.items():
        # Along two directions: element by element test_recurrent_gradients.py does it.
        for _ in range(2):
            direction = rng.standard_normal(array.shape)
            expected = slope(loss, array, direction)
            found = np.sum(results[key] * direction)
            scale = max(1.0, np.abs(results[key]).max())
            assert abs(found - expected) <= CENTRAL_DIFFERENCES * scale, key


@pytest.mark.parametrize("name", CASES)
def test_compiled_agrees_with_the_reference(compiled_backend, make, name, dtype):
    layer, lengths = make(name, dtype)
    results = run(layer, random_call(layer, T, B, lengths))
    same, _ = make(name, dtype)
    with fr.use_backend("reference"):
        expected = run(same, random_call(same, T, B, lengths))
    for key, array in results.items():
        assert array.dtype == dtype
        assert_close(array, expected[key], TOLERANCES[dtype], key)


def test_the_gradients_of_a_cells_vectors_over_many_steps(backend):
    # All steps are alike, so that rounding errors of one sum over all of them add up.
    results = []
    for dtype in ("float32", "float64"):
        layer = fr.LSTM(1, 1, layer_norm=True, peepholes=True, dtype=dtype, seed=0)
        layer.parameters.flat_values.fill(0)
        layer.parameters["bias_l0"].fill(0.37)
        layer.parameters["bias_c_l0"].fill(0.37)
        output, _, pullback = layer.vjp(np.zeros((100, 1000, 1)))
        pullback(np.full(output.shape, 0.1))
        results.append(dict(layer.gradients))
    for name in ("peephole_l0", "bias_l0", "bias_c_l0"):
        assert_close(results[0][name], results[1][name], 1e-4, name)


# Few rows, so that threads divide the units and meet at barriers; and many, which they divide.
@pytest.mark.parametrize("B", [1, 5, 24])
@pytest.mark.parametrize(
    "options",
    [{"peepholes": True, "proj_size": 200}, {"layer_norm": True}, {"coupled": True}, {}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_threads_change_nothing(compiled_backend, set_threads, options, B):
    set_threads(3)
    masks = {"recurrent_dropout": 0.3, "zoneout": (0.2, 0.4), "cell_clip": 0.5}
    results = []
    for backend in ("compiled", "reference"):
        layer = scramble(fr.LSTM(4, 300, dtype="float64", seed=1, **masks, **options))
        with fr.use_backend(backend):
            results.append(run(layer, random_call(layer, 20, B)))
    for name, array in results[0].items():
        assert_close(array, results[1][name], TOLERANCES["float64"], name)


# Up to 26 rows, a fifth of 130 units, are multiplied by weights that are not packed.
@pytest.mark.parametrize(("T", "B"), [(1, 26), (2, 13), (5, 5), (13, 2), (3, 9)])
@pytest.mark.parametrize(
    "layer",
    [
        fr.RNN(40, 130, dtype="float64", seed=1),
        fr.GRU(7, 130, reset_after=False, dtype="float64", seed=1),
        fr.LSTM(130, 130, proj_size=70, bidirectional=True, dtype="float64", seed=1),
        fr.LSTM(40, 130, recurrent_dropout=0.3, layer_norm=True, dtype="float64", seed=1),
    ],
    ids=["RNN", "reset before", "projected", "layer norm"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_few_rows(compiled_backend, set_threads, threads, layer, T, B):
    set_threads(threads)
    results = []
    for backend in ("compiled", "reference"):
        call = random_call(layer, T, B, [T] * (B - 1) + [T // 2])
        layer.generator.bit_generator.state = np.random.default_rng(2).bit_generator.state
        with fr.use_backend(backend):
            results.append(run(layer, call))
    for name, array in results[0].items():
        assert_close(array, results[1][name], TOLERANCES["float64"], name)


def test_bits_of_few_rows_are_their_own(compiled_backend):
    layer, dense = fr.LSTM(100, 130, seed=1), fr.Dense(100, 130, seed=1)
    x = np.random.default_rng(0).standard_normal((1, 20, 100)).astype(np.float32)
    output, _, pullback = layer.vjp(x)
    d_x, _ = pullback(output)
    for B in range(2, 20):
        part, _, pullback = layer.vjp(x[:, :B])
        np.testing.assert_array_equal(part, output[:, :B])
        np.testing.assert_array_equal(pullback(part)[0], d_x[:, :B])
        np.testing.assert_array_equal(dense(x[0, :B]), dense(x[0])[:B])


@pytest.mark.parametrize(
    "layer",
    [
        # Rows that are whole lines of the cache, rows that are not, and more than is transposed.
        *[fr.GRU(3, H, dtype="float64", seed=1) for H in (24, 25)],
        *[fr.LSTM(3, H, dtype="float64", seed=1) for H in (24, 25)],
        *[fr.RNN(3, H, dtype="float64", seed=1) for H in (24, 25, 260)],
        fr.GRU(3, 25, reset_after=False, dtype="float64", seed=1),
        fr.LSTM(3, 25, proj_size=7, dtype="float64", seed=1),
        fr.LSTM(3, 25, coupled=True, layer_norm=True, dtype="float64", seed=1),
    ],
    ids=lambda layer: f"{layer.cell.name} {layer.hidden_size}",
)
def test_weights_that_one_sequence_copies_are_the_same(compiled_backend, set_threads, layer):
    set_threads(1)
    results = []
    for backend in ("compiled", "reference"):
        call = random_call(layer, 70, 1)
        with fr.use_backend(backend):
            results.append(run(layer, call))
    for name, array in results[0].items():
        # Errors of rounding grow over so many steps.
        assert_close(array, results[1][name], 10 * TOLERANCES["float64"], name)


@pytest.mark.parametrize("lengths", [[150], [150, 0, 77]], ids=["one sequence", "three"])
@pytest.mark.parametrize(
    "layer",
    [
        fr.RNN(100, 96, 2, dtype="float64", seed=1),
        fr.GRU(40, 72, reset_after=False, zoneout=0.2, dtype="float64", seed=1),
        fr.LSTM(40, 72, proj_size=50, recurrent_dropout=0.3, dtype="float64", seed=1),
        fr.LSTM(40, 72, layer_norm=True, bidirectional=True, dtype="float64", seed=1),
        fr.LSTM(40, 72, bias=False, reverse=True, dtype="float64", seed=1),
    ],
    ids=["RNN", "reset before", "projected", "layer norm", "reverse"],
)
def test_a_thread_behind_the_loop_changes_nothing(compiled_backend, set_threads, layer, lengths):
    """Steps are too small to be divided, and many enough for a second thread."""
    set_threads(3)
    results = []
    for backend in ("compiled", "compiled", "reference"):
        call = random_call(layer, max(lengths), len(lengths), lengths)
        layer.generator.bit_generator.state = np.random.default_rng(2).bit_generator.state
        with fr.use_backend(backend):
            results.append(run(layer, call))
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])
        # Errors of rounding grow over so many steps.
        assert_close(array, results[2][name], 10 * TOLERANCES["float64"], name)


probabilities = st.sampled_from([0.0, 0.0, 0.3, 1.0])
common = {
    "num_layers": st.integers(1, 2),
    "bias": st.booleans(),
    "dropout": probabilities,
    "variational": st.booleans(),
    "recurrent_dropout": probabilities,
    "zoneout": probabilities,
    "learned_state": st.booleans(),
    "init": st.sampled_from(["uniform", "orthogonal", "glorot_uniform"]),
    "batch_first": st.booleans(),
    "direction": st.sampled_from([{}, {"reverse": True}, {"bidirectional": True}]),
}
layers = st.one_of(
    st.fixed_dictionaries({"kind": st.just(fr.RNN), **common}),
    st.fixed_dictionaries({"kind": st.just(fr.GRU), "reset_after": st.booleans(), **common}),
    st.fixed_dictionaries(
        {
            "kind": st.just(fr.LSTM),
            "peepholes": st.booleans(),
            "coupled": st.booleans(),
            "layer_norm": st.booleans(),
            "cell_clip": st.sampled_from([None, 0.5]),
            "proj_size": st.sampled_from([0, 3]),
            **common,
        }
    ),
)


def drawn(options, H, seed):
    """Return the layer of drawn options."""
    options = {**options, **options["direction"]}
    kind, _ = options.pop("kind"), options.pop("direction")
    return scramble(kind(I, H, dtype="float64", seed=seed, **options))


@settings(max_examples=60, deadline=None)
@given(
    options=layers,
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(4, 21)),
    with_lengths=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_combination_agrees_with_the_reference(options, sizes, with_lengths, seed):
    pytest.importorskip("fastrnn._core.scan")
    T, B, H = sizes
    lengths = np.random.default_rng(seed).integers(0, T + 1, B) if with_lengths else None
    results = []
    for backend in ("compiled", "reference"):
        layer = drawn(options, H, seed)
        with fr.use_backend(backend):
            results.append(run(layer, random_call(layer, T, B, lengths)))
            output, _ = layer(random_call(layer, T, B).x)
            results[-1]["inference"] = output
    for name, array in results[0].items():
        assert_close(array, results[1][name], TOLERANCES["float64"], name)


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    options=layers,
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(4, 17)),
    with_lengths=st.booleans(),
    with_state=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_combination_has_its_central_difference(
    backend, options, sizes, with_lengths, with_state, seed
):
    """Along a direction in all inputs and parameters at once, by two steps (Richardson)."""
    T, B, H = sizes
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, T + 1, B) if with_lengths else None
    layer = drawn(options, H, seed)
    call = random_call(layer, T, B, lengths)
    if not with_state:
        call = call._replace(state=None)
    start = layer.generator.bit_generator.state
    results = run(layer, call)
    arrays = {"d_x": call.x, **layer.parameters}
    if with_state:
        arrays |= {f"d_state {k}": array for k, array in enumerate(as_tuple(call.state))}
    before = {key: array.copy() for key, array in arrays.items()}
    along = {key: rng.standard_normal(array.shape) for key, array in arrays.items()}

    def loss(step):
        for key, array in arrays.items():
            array[...] = before[key] + step * along[key]
        layer.generator.bit_generator.state = start
        output, state, _ = layer.vjp(call.x, call.state, call.lengths)
        pairs = [(output, call.d_output), *zip(as_tuple(state), as_tuple(call.d_state))]
        return sum(np.sum(array * d) for array, d in pairs)

    coarse, fine = ((loss(h) - loss(-h)) / (2 * h) for h in (2e-5, 1e-5))
    expected = fine + (fine - coarse) / 3
    found = sum(np.sum(results[key] * along[key]) for key in arrays)
    scale = max(1.0, sum(np.abs(results[key] * along[key]).sum() for key in arrays))
    # Else a kink lies between, or it bends too sharply: rows of equal elements, normalised.
    assume(abs(fine - coarse) <= 10 * CENTRAL_DIFFERENCES * scale)
    assert abs(found - expected) <= CENTRAL_DIFFERENCES * scale


# ------------------------------------------------------------------- against formulas of their own


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def layer_norm(row, gain):
    return gain * (row - row.mean()) / np.sqrt(row.var() + 1e-5)


def one_sequence(layer, x, h, c, step):
    """Run a formula over one sequence (T, I); return the h and c of each step."""
    p = {name.removesuffix("_l0"): array for name, array in layer.parameters.items()}
    steps = []
    for row in x:
        h, c = step(p, row, h, c)
        steps.append((h, c))
    return np.array(steps)


def check_formula(layer, step):
    scramble(layer)
    call = random_call(layer, T=6, B=2)
    output, (h, c) = layer(call.x, call.state)
    for b in range(2):
        first = [array[0, b] for array in call.state]
        expected = one_sequence(layer, call.x[:, b], *first, step)
        assert_close(output[:, b], expected[:, 0], 1e-12)
        assert_close(h[0, b], expected[-1, 0], 1e-12)
        assert_close(c[0, b], expected[-1, 1], 1e-12)


@pytest.mark.parametrize(("peepholes", "cell_clip"), [(True, None), (True, 0.3), (False, 0.3)])
def test_peepholes_and_cell_clip(backend, peepholes, cell_clip):
    def step(p, x, h, c):
        z = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ h + p["bias_hh"]
        i, f, g, o = np.split(z, 4)
        p_i, p_f, p_o = np.split(p["peephole"], 3) if peepholes else (0, 0, 0)
        new = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
        if cell_clip is not None:
            new = np.minimum(np.maximum(new, -cell_clip), cell_clip)
        return sigmoid(o + p_o * new) * np.tanh(new), new

    options = {"peepholes": peepholes, "cell_clip": cell_clip}
    check_formula(fr.LSTM(3, 5, **options, dtype="float64", seed=1), step)


def test_coupled(backend):
    def step(p, x, h, c):
        z = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ h + p["bias_hh"]
        i, g, o = np.split(z, 3)
        new = (1 - sigmoid(i)) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(new), new

    check_formula(fr.LSTM(3, 5, coupled=True, dtype="float64", seed=1), step)


def test_layer_norm(backend):
    def step(p, x, h, c):
        z = layer_norm(p["weight_ih"] @ x, p["gain_ih"]) + p["bias"]
        i, f, g, o = np.split(z + layer_norm(p["weight_hh"] @ h, p["gain_hh"]), 4)
        new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(layer_norm(new, p["gain_c"]) + p["bias_c"]), new

    check_formula(fr.LSTM(3, 5, layer_norm=True, dtype="float64", seed=1), step)


# ---------------------------------------------------------------------------------- what each does


def test_reverse_reads_the_sequence_from_its_end(backend):
    layer, plain = (fr.GRU(I, H, 2, reverse=reverse, seed=1) for reverse in (True, False))
    x = random_call(layer, T, B).x
    output, state = layer(x)
    expected, last = plain(x[::-1])
    np.testing.assert_array_equal(output, expected[::-1])
    np.testing.assert_array_equal(state, last)


def test_reverse_is_the_reverse_half_of_a_bidirectional_layer(backend):
    layer, both = fr.LSTM(I, H, reverse=True), fr.LSTM(I, H, bidirectional=True, seed=1)
    layer.load_state_dict({name: both.parameters[name + "_reverse"] for name in layer.parameters})
    call = random_call(layer, T, B, LENGTHS)
    output, state = layer(call.x, None, LENGTHS)
    expected, last = both(call.x, None, LENGTHS)
    np.testing.assert_array_equal(output, expected[..., H:])
    np.testing.assert_array_equal(state[1][0], last[1][1])


def test_zoneout_of_all_keeps_the_state(backend):
    layer = fr.LSTM(I, H, zoneout=1.0, seed=1)
    call = random_call(layer, T, B)
    for output, state in (layer(call.x, call.state), layer.vjp(call.x, call.state)[:2]):
        np.testing.assert_array_equal(output, np.broadcast_to(call.state[0], output.shape))
        np.testing.assert_array_equal(state, call.state)


@pytest.mark.parametrize("zoneout", [(0.2, 0.7), (0.0, 0.7)])
def test_zoneout_keeps_elements_in_training_and_their_mean_at_inference(backend, zoneout):
    layer, plain = (fr.LSTM(I, 200, zoneout=z, dtype="float64", seed=1) for z in (zoneout, 0.0))
    call = random_call(layer, 1, B)
    _, after = plain(call.x, call.state)
    _, drawn, _ = layer.vjp(call.x, call.state)
    _, expected = layer(call.x, call.state)
    for p, before, new, one, mean in zip(zoneout, call.state, after, drawn, expected):
        kept = one == before
        np.testing.assert_array_equal(one[~kept], new[~kept])
        assert abs(kept.mean() - p) < 0.1
        assert_close(mean, p * before + (1 - p) * new, 1e-14)


def test_an_infinite_gradient_passes_an_element_that_zoneout_does_not_keep(backend):
    layer = fr.RNN(1, 50, zoneout=0.5, nonlinearity="relu", seed=1)
    layer.parameters["bias_ih_l0"][...] = 9
    output, _, pullback = layer.vjp(np.ones((1, 1, 1)))
    with np.errstate(invalid="ignore"):  # nothing of infinity
        pullback(np.full_like(output, np.inf))
    kept = output[0, 0] == 0
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_array_equal(layer.gradients["bias_ih_l0"][~kept], np.inf)


def test_zoneout_is_drawn_at_each_step_and_recurrent_dropout_once_a_sequence(backend):
    layer = fr.RNN(1, 50, zoneout=0.5, seed=1)
    x = np.random.default_rng(0).standard_normal((4, 1, 1))
    output = layer.vjp(x)[0][:, 0]
    kept = output[1:] == output[:-1]
    assert 0.2 < kept.mean() < 0.8
    assert (kept[0] != kept[1]).any()

    # With W_hh = 1 and no input, relu: h_t = mask * h_{t-1}.
    layer = fr.RNN(1, 50, nonlinearity="relu", bias=False, recurrent_dropout=0.5, seed=1)
    layer.parameters["weight_hh_l0"][...] = np.eye(50)
    h = np.ones((1, 2, 50))
    output, _, _ = layer.vjp(np.zeros((3, 2, 1)), h)
    assert set(np.unique(output[0])) == {0.0, 2.0}
    np.testing.assert_array_equal(output[2], output[0] ** 3)
    assert (output[0, 0] != output[0, 1]).any()
    np.testing.assert_array_equal(layer(np.zeros((3, 2, 1)), h)[0], np.ones((3, 2, 50)))


def test_variational_dropout_drops_the_same_at_each_step(backend):
    # The second layer hands on its input: W_ih = 1 and nothing else, relu.
    layer = fr.RNN(2, 40, 2, nonlinearity="relu", bias=False, dropout=0.5, variational=True, seed=1)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        layer.parameters[name][...] = 0
    layer.parameters["weight_ih_l0"][...] = 1
    layer.parameters["weight_ih_l1"][...] = np.eye(40)
    output, _, _ = layer.vjp(np.ones((5, 3, 2)), lengths=[5, 2, 4])
    assert set(np.unique(output[0])) == {0.0, 4.0}
    for b, length in enumerate([5, 2, 4]):
        assert (output[:length, b] == output[0, b]).all()
    assert (output[0, 0] != output[0, 1]).any()


def test_a_learned_state_stands_in_for_none(backend):
    layer = scramble(fr.LSTM(I, H, 2, learned_state=True, seed=1))
    call = random_call(layer, T, B)
    state = tuple(np.repeat(layer.parameters[name][:, None], B, axis=1) for name in ("h0", "c0"))
    np.testing.assert_array_equal(layer(call.x)[0], layer(call.x, state)[0])
    run(layer, call)  # with a state of its own
    assert not layer.gradients["h0"].any()
    gradients = []
    for _ in range(2):
        layer.vjp(call.x)[2](call.d_output)
        gradients.append(layer.gradients["h0"].copy())
    assert_close(gradients[1], 2 * gradients[0], TOLERANCES["float32"])
    stream = layer.stream(B)
    np.testing.assert_array_equal(stream.state[1], state[1])
    stream.step(call.x[0])
    stream.reset()
    np.testing.assert_array_equal(stream.state[0], state[0])


def test_a_learned_state_begins_at_zero():
    layer = fr.GRU(I, H, learned_state=True)
    assert list(layer.parameters)[-1] == "h0"
    assert not layer.parameters["h0"].any()


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"peepholes": True}])
def test_forget_bias(options):
    layer = fr.LSTM(I, H, 2, bidirectional=True, forget_bias=1.5, **options)
    for suffix in ("_l0", "_l1_reverse"):
        names = ["bias"] if "layer_norm" in options else ["bias_ih", "bias_hh"]
        total = sum(layer.parameters[name + suffix] for name in names)
        np.testing.assert_array_equal(total[H : 2 * H], 1.5)
        assert not (total[:H] == 1.5).any()


@pytest.mark.parametrize("name", CASES)
def test_masks_are_drawn_by_vjp_from_the_seed(backend, make, name):
    (layer, _), (twin, _) = make(name), make(name)
    x = random_call(layer, T, B).x
    start = layer.generator.bit_generator.state
    layer(x)
    assert layer.generator.bit_generator.state == start
    first, second = layer.vjp(x)[0], layer.vjp(x)[0]
    np.testing.assert_array_equal(twin.vjp(x)[0], first)
    drawn = layer.generator.bit_generator.state != start
    assert drawn == (first != second).any()
    assert drawn == any(word in name for word in ("dropout", "zoneout", "variational", "every"))


@pytest.mark.parametrize("name", [name for name in CASES if "reverse" not in CASES[name][1]])
def test_streams(backend, make, name, dtype):
    kind, options, _ = CASES[name]
    layer = scramble(kind(I, H, dtype=dtype, seed=1, **{**options, "bidirectional": False}))
    call = random_call(layer, T, B)
    expected, last = layer(call.x)
    stream = layer.stream(B)
    outputs = [stream.step(x) for x in call.x]
    assert_close(np.stack(outputs), expected, TOLERANCES[dtype])
    for array, final in zip(as_tuple(stream.state), as_tuple(last)):
        assert_close(array, final, TOLERANCES[dtype])
    for array in layer.parameters.values():  # in effect at once
        array *= 0.5
    stream.reset()
    assert_close(stream.step(call.x[0]), layer(call.x[:1])[0][0], TOLERANCES[dtype])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies_and_state_dicts(backend, make, name, duplicate):
    layer, lengths = make(name)
    other = duplicate(layer)
    call = random_call(layer, T, B, lengths)
    expected = run(layer, call)
    third, _ = make(name, seed=2)
    third.load_state_dict(layer.state_dict())
    third.generator.bit_generator.state = other.generator.bit_generator.state
    for twin in (other, third):
        for key, array in run(twin, call).items():
            np.testing.assert_array_equal(array, expected[key], key)


def test_models_with_options_are_saved_and_loaded(tmp_path):
    options = {"layer_norm": True, "zoneout": [0.1, 0.2], "recurrent_dropout": 0.2}
    options |= {"learned_state": True, "init": {"weight_hh": "orthogonal"}}
    model = fr.models.LanguageModel(7, 5, 2, options=options, seed=1)
    model.save(tmp_path / "model.safetensors")
    loaded, _ = fr.models.load(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    ids = np.arange(12).reshape(6, 2) % 7
    np.testing.assert_array_equal(loaded(ids)[0], model(ids)[0])
    assert loaded.encoder.recurrent.zoneout == (0.1, 0.2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reverse": True, "bidirectional": True}, ValueError, "reverse must be False"),
        ({"reverse": 1}, TypeError, "reverse must be True or False"),
        ({"coupled": True, "forget_bias": 1.0}, ValueError, "forget_bias must be None"),
        ({"bias": False, "forget_bias": 1.0}, ValueError, "forget_bias must be None"),
        ({"cell_clip": 0.0}, ValueError, "cell_clip must be a positive number, got 0"),
        ({"zoneout": 1.5}, ValueError, r"zoneout must be a probability in \[0, 1\], got 1.5"),
        ({"zoneout": (0.1,)}, ValueError, r"zoneout must be .* pair, of h and of c, got \(0.1,\)"),
        ({"zoneout": (0.1, 2.0)}, ValueError, "zoneout of c must be a probability"),
        ({"recurrent_dropout": -1}, ValueError, "recurrent_dropout must be a probability"),
        ({"init": "he"}, ValueError, "init must be one of 'uniform'"),
        ({"init": {"bias": "orthogonal"}}, ValueError, "init of bias must be one of"),
        ({"init": {"weights": "zeros"}}, ValueError, "init's kind must be one of"),
        ({"num_layers": 10_001}, ValueError, "num_layers must be at most 10000, got 10001"),
        ({"proj_size": np.zeros(2)}, TypeError, "proj_size must be a non-negative integer"),
        ({"bias": 0, "forget_bias": 1.0}, TypeError, "bias must be True or False, got int 0"),
        ({"proj_size": H}, ValueError, "proj_size must be less than hidden_size, 4, got 4"),
        ({"zone_out": 0.1}, TypeError, "LSTM has no argument 'zone_out'; .* it takes reverse, "),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        fr.LSTM(I, H, **options)


def test_a_layer_in_reverse_does_not_stream():
    with pytest.raises(ValueError, match="a layer in reverse cannot stream"):
        fr.GRU(I, H, reverse=True).stream()


def test_every_cell_is_reached_by_an_option():
    assert {make(I, H).cell.name for make in LAYERS.values()} == set(LAYERS)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_first", True), ("zoneout", 0.5), ("zoneout", (0.1, 0.5)), ("variational", True)],
)
def test_what_may_be_set_later_acts_as_in_the_constructor(option, value):
    x = np.random.default_rng(0).standard_normal((4, 4, 5))
    layer = fr.LSTM(5, 8, 2, dropout=0.5, seed=0)
    layer(x), layer(x)  # which the layer keeps for the next
    setattr(layer, option, value)
    expected = fr.LSTM(5, 8, 2, dropout=0.5, seed=0, **{option: value})
    np.testing.assert_array_equal(layer(x)[0], expected(x)[0])
    np.testing.assert_array_equal(layer.vjp(x)[0], expected.vjp(x)[0])
    with pytest.raises(TypeError, match=f"{option} must be"):
        setattr(layer, option, "yes")


@pytest.mark.parametrize(
    "name",
    [
        *("hidden_size", "num_layers", "bias", "bidirectional", "proj_size", "dtype", "generator"),
        *("reverse", "learned_state", "cell_clip", "peepholes", "coupled", "layer_norm"),
    ],
)
def test_what_would_have_no_effect_later_cannot_be_set(name):
    layer = fr.LSTM(5, 8)
    with pytest.raises(
        ValueError, match=f"^{name} must stay what this LSTM was made with, .*, got 3"
    ):
        setattr(layer, name, 3)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (fr.RNN(5, 8), "nonlinearity"),
        (fr.GRU(5, 8), "reset_after"),
        (fr.RNNCell(5, 8), "nonlinearity"),
        (fr.LSTMCell(5, 8), "hidden_size"),
        (fr.Dense(5, 8), "bias"),
        (fr.Embedding(5, 8), "num_embeddings"),
        (fr.layers.GeneralAttention(5, 8), "memory_size"),
        (fr.layers.MeanPooling(5), "size"),
    ],
)
def test_nor_can_it_be_of_other_modules(module, name):
    with pytest.raises(ValueError, match=f"^{name} must stay what this .* was made with"):
        setattr(module, name, 3)


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_dropout_may_be_set_later(option):
    x = np.random.default_rng(0).standard_normal((4, 3, 5))
    outputs = []
    for first, later in ((0.8, 0.8), (0.0, 0.8), (0.2, 0.8), (0.8, 0.0)):
        layer = fr.GRU(5, 8, 2, seed=0, **{option: first})
        setattr(layer, option, later)
        assert getattr(layer, option) == later
        outputs.append(layer.vjp(x)[0])
    for output in outputs[1:3]:
        np.testing.assert_array_equal(output, outputs[0])
    np.testing.assert_array_equal(outputs[3], layer(x)[0])
    with pytest.raises(ValueError, match=f"{option} must be a probability"):
        setattr(layer, option, 1.5)
