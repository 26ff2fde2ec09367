"""Details of recurrent layers: axes, lengths, dtypes, tapes, dropout, refused arguments."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import LAYERS, as_state, as_tuple, random_call, run
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

import fastrnn as fr
from fastrnn import parameters
from fastrnn.backends import active_backend
from fastrnn.layers.packing import packing_of

T, B, I, H = 5, 4, 3, 6

pytestmark = pytest.mark.usefixtures("backend")


# One cell of each kind: the others differ in what test_recurrent_gradients.py looks at.
KINDS = [name for name in LAYERS if not name.startswith(("lstm_peephole", "lstm_coupled"))]
KINDS.remove("lstm_normalised_projected")


@pytest.fixture(params=KINDS)
def make(request):
    """A constructor of a layer I -> H, by cell."""
    return lambda *sizes, **options: LAYERS[request.param](I, H, *sizes, **{"seed": 1, **options})


def bits(*arrays):
    return [np.asarray(array).tobytes() for array in arrays]


class TestAxes:
    def test_shapes(self, make):
        layer = make(3, bidirectional=True)
        call = random_call(layer, T, B)
        output, state, pullback = layer.vjp(call.x)
        d_x, d_state = pullback(call.d_output)
        assert output.shape == (T, B, 2 * layer.output_size)
        assert d_x.shape == (T, B, I)
        for arrays in (state, d_state):
            assert [a.shape for a in as_tuple(arrays)] == [(6, B, w) for w in layer.state_widths]

    @pytest.mark.parametrize("lengths", [None, [2, 5, 0, 5]], ids=["full", "lengths"])
    def test_batch_first_swaps_all_but_the_state(self, make, lengths):
        layer, other = make(bidirectional=True), make(bidirectional=True, batch_first=True)
        call = random_call(layer, T, B, lengths)
        swapped = call._replace(x=call.x.swapaxes(0, 1), d_output=call.d_output.swapaxes(0, 1))
        results, expected = run(other, swapped), run(layer, call)
        for name in ("output", "d_x"):
            results[name] = results[name].swapaxes(0, 1)
        for name, array in expected.items():
            np.testing.assert_array_equal(results[name], array, name)

    @pytest.mark.parametrize("batch_first", [False, True])
    def test_one_sequence_without_a_batch_axis(self, make, batch_first):
        layer = make(2, batch_first=batch_first)
        call = random_call(make(2), T, 1)
        alone = call._replace(
            x=call.x[:, 0],
            state=as_state(array[:, 0] for array in as_tuple(call.state)),
            d_output=call.d_output[:, 0],
            d_state=as_state(array[:, 0] for array in as_tuple(call.d_state)),
        )
        expected = run(make(2), call)
        for name, array in run(layer, alone).items():
            if name not in layer.parameters:
                expected[name] = expected[name].squeeze(1)
            np.testing.assert_array_equal(array, expected[name], name)

    def test_no_state_is_zero(self, make):
        layer = make()
        x = random_call(layer, T, B).x
        zero = as_state(np.zeros((1, B, width)) for width in layer.state_widths)
        assert bits(layer(x)[0]) == bits(layer(x, zero)[0])

    def test_the_final_state_continues_a_sequence(self, make):
        layer = make(2, dtype="float64")
        call = random_call(layer, T, B)
        whole, last = layer(call.x, call.state)
        first, state = layer(call.x[:2], call.state)
        second, end = layer(call.x[2:], state)
        assert_close(np.concatenate((first, second)), whole, TOLERANCES["float64"])
        for array, expected in zip(as_tuple(end), as_tuple(last)):
            assert_close(array, expected, TOLERANCES["float64"])

    def test_no_sequences(self, make):
        layer = make(2, bidirectional=True)
        for lengths in (None, []):
            results = run(layer, random_call(layer, T, 0, lengths))
            assert results["output"].shape == (T, 0, 2 * layer.output_size)
            assert results["d_x"].shape == (T, 0, I)
            assert results["state 0"].shape == (4, 0, layer.output_size)
            assert not any(array.any() for array in layer.gradients.values())

    def test_no_steps_are_refused(self, make):
        layer = make()
        for x in (np.zeros((0, B, I)), np.zeros((0, I))):
            with pytest.raises(ValueError, match="at least 1 step"):
                layer(x)


class TestLengths:
    LENGTHS = [3, 5, 0, 1]

    def test_each_sequence_is_as_alone(self, make):
        layer = make(2, bidirectional=True, dtype="float64")
        call = random_call(layer, T, B, self.LENGTHS)
        results = run(layer, call)
        totals = {name: np.zeros_like(array) for name, array in layer.parameters.items()}
        for b, length in enumerate(self.LENGTHS):
            if length == 0:
                continue
            alone = run(
                layer,
                call._replace(
                    x=call.x[:length, b],
                    state=as_state(array[:, b] for array in as_tuple(call.state)),
                    lengths=None,
                    d_output=call.d_output[:length, b],
                    d_state=as_state(array[:, b] for array in as_tuple(call.d_state)),
                ),
            )
            for name, array in alone.items():
                if name in totals:
                    totals[name] += array
                elif name in ("output", "d_x"):
                    assert_close(results[name][:length, b], array, TOLERANCES["float64"], name)
                    assert not results[name][length:, b].any()
                else:
                    assert_close(results[name][:, b], array, TOLERANCES["float64"], name)
        for name, total in totals.items():
            assert_close(results[name], total, TOLERANCES["float64"], name)

    def test_an_empty_sequence_keeps_its_state(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B, self.LENGTHS)
        results = run(layer, call)
        for k, (array, d_array) in enumerate(zip(as_tuple(call.state), as_tuple(call.d_state))):
            np.testing.assert_array_equal(results[f"state {k}"][:, 2], array[:, 2])
            np.testing.assert_array_equal(results[f"d_state {k}"][:, 2], d_array[:, 2])
        assert not results["output"][:, 2].any()

    def test_all_sequences_may_be_empty(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B, [0] * B)
        results = run(layer, call)
        assert not results["output"].any()
        assert not results["d_x"].any()
        np.testing.assert_array_equal(results["state 0"], as_tuple(call.state)[0])

    def test_padding_is_never_read(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B, self.LENGTHS)
        expected = run(layer, call)
        padding = np.arange(T)[:, None] >= self.LENGTHS
        for array in (call.x, call.d_output):
            array[padding] = np.nan
        for name, array in run(layer, call).items():
            np.testing.assert_array_equal(array, expected[name], name)

    @pytest.mark.parametrize("kind", [tuple, np.array, lambda n: np.array(n, np.uint8)])
    def test_any_integer_sequence(self, make, kind):
        layer = make()
        x = random_call(layer, T, B).x
        assert bits(layer(x, lengths=kind(self.LENGTHS))[0]) == bits(
            layer(x, lengths=self.LENGTHS)[0]
        )

    @pytest.mark.parametrize(
        ("lengths", "error", "message"),
        [
            ([1, 2, 3], ValueError, r"lengths must be \(4,\), got \(3,\)"),
            ([1, 2, 3, 6], ValueError, r"lengths must be in 0\.\.5, got 6 at row 3"),
            ([1, -2, 3, 5], ValueError, r"lengths must be in 0\.\.5, got -2 at row 1"),
            ([1.0, 2.0, 3.0, 5.0], TypeError, "lengths must be integers, got dtype float64"),
            ([True] * 4, TypeError, "lengths must be integers, got dtype bool"),
            (np.array([1, 2, 3, 2**63], np.uint64), ValueError, r"lengths must be in 0\.\.5"),
        ],
    )
    def test_other_lengths_are_refused(self, make, lengths, error, message):
        layer = make()
        with pytest.raises(error, match=message):
            layer(np.zeros((T, B, I)), lengths=lengths)


class TestInputs:
    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: x.astype(np.float64),
            lambda x: x.astype(np.int64),
            lambda x: x.astype(np.uint8),
            lambda x: x.astype(bool).astype(np.float32).astype(bool),
            lambda x: x.tolist(),
            lambda x: x.astype(">f4"),
            lambda x: np.asfortranarray(x),
            lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
            lambda x: x[::-1][::-1],
            lambda x: np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view("f4").reshape(x.shape),
        ],
        ids=[
            "float64",
            "int",
            "uint8",
            "bool",
            "list",
            "big-endian",
            "Fortran",
            "strided",
            "reversed",
            "unaligned",
        ],
    )
    def test_what_casts_is_taken(self, make, convert):
        layer = make()
        x = np.random.default_rng(0).integers(0, 2, (T, B, I)).astype(np.float32)
        expected = layer(x)[0]
        np.testing.assert_array_equal(layer(convert(x))[0], expected)

    @pytest.mark.parametrize("dtype", [complex, object, "U4", "M8[s]"])
    def test_what_does_not_cast_is_refused(self, make, dtype):
        layer = make()
        with pytest.raises(TypeError, match=r"x must be castable to float32"):
            layer(np.zeros((T, B, I)).astype(dtype))
        state = as_state(np.zeros((1, B, w)).astype(dtype) for w in layer.state_widths)
        with pytest.raises(TypeError, match=r"h0 must be castable to float32"):
            layer(np.zeros((T, B, I)), state)

    @pytest.mark.parametrize("shape", [(), (I,), (T, B, I + 1), (T, I + 1), (1, T, B, I)])
    def test_other_shapes_are_refused(self, make, shape):
        layer = make()
        with pytest.raises(ValueError, match=r"^x must be "):
            layer(np.zeros(shape))

    def test_messages_say_what_was_expected_and_what_came(self):
        layer = fr.LSTM(I, H, 2)
        x = np.zeros((T, B, I))
        h = np.zeros((2, B, H))
        with pytest.raises(ValueError, match=r"^x must be \(T, B, 3\), got \(5, 4, 2\)$"):
            layer(np.zeros((T, B, 2)))
        with pytest.raises(ValueError, match=r"^h0 must be \(2, 4, 6\), got \(4, 6\)$"):
            layer(x, (h[0], h))
        with pytest.raises(ValueError, match=r"^c0 must be \(2, 4, 6\), got \(2, 4, 5\)$"):
            layer(x, (h, h[..., :5]))
        with pytest.raises(TypeError, match=r"^state must be a pair \(h0, c0\), got ndarray$"):
            layer(x, h)
        with pytest.raises(ValueError, match=r"^x must be an array, got lists of unequal lengths$"):
            layer([[0.0] * I, [0.0]])

    @pytest.mark.parametrize("state", [lambda h: (h, None), lambda h: [None]])
    @pytest.mark.parametrize("kind", [fr.RNN, fr.GRU])
    def test_state_of_one_array_is_no_pair(self, kind, state):
        layer, x, h = kind(I, H), np.zeros((T, B, I)), np.zeros((1, B, H))
        message = r"^state must be an array h0, got (tuple|list) with None$"
        with pytest.raises(TypeError, match=message):
            layer(x, state(h))
        _, _, pullback = layer.vjp(x)
        with pytest.raises(TypeError, match=r"^d_state must be an array d_h, got (tuple|list)"):
            pullback(None, state(h))
        for batch_size in (1, B):
            stream = layer.stream(batch_size)
            stream.step(np.ones((batch_size, I)))
            before = stream.state
            with pytest.raises(TypeError, match=message):
                stream.state = state(h[:, :batch_size])
            np.testing.assert_array_equal(stream.state, before)

    def test_nan_flows_through_its_own_sequence(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        call.x[2, 1] = np.nan
        output, _ = layer(call.x, call.state)
        affected = np.isnan(output).any(axis=2)
        assert affected[2:, 1].all()
        affected[2:, 1] = False
        assert not affected.any()

    def test_infinity_is_the_limit_of_large_numbers(self):
        for layer in (fr.RNN(I, H, seed=1), fr.LSTM(I, H, seed=1), fr.GRU(I, H, seed=1)):
            weight = layer.parameters["weight_ih_l0"]
            weight[...] = np.abs(weight) * np.where(np.arange(len(weight)) % 2, 1, -1)[:, None]
            expected, _ = layer(np.full((T, B, I), 1e20))
            np.testing.assert_array_equal(layer(np.full((T, B, I), np.inf))[0], expected)
            assert np.isfinite(expected).all()

    @pytest.mark.parametrize("value", [np.inf, np.nan])
    def test_no_gradient_passes_a_relu_that_is_off(self, value):
        layer = fr.RNN(I, H, nonlinearity="relu", seed=1)
        layer.parameters["bias_ih_l0"][0] = -100
        output, _, pullback = layer.vjp(np.ones((T, B, I)))
        assert not output[..., 0].any()
        d_output = np.zeros_like(output)
        d_output[..., 0] = value
        d_x, d_state = pullback(d_output)
        assert not d_x.any()
        assert not d_state.any()

    @pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
    def test_nan_of_a_unit_is_in_its_gradients(self, nonlinearity):
        layer = fr.RNN(I, H, nonlinearity=nonlinearity, seed=1)
        layer.parameters["bias_ih_l0"][0] = np.nan
        output, _, pullback = layer.vjp(np.ones((1, B, I)))
        d_x, _ = pullback(output)
        assert np.isnan(d_x).all()
        for name, gradient in layer.gradients.items():
            assert np.isnan(gradient[0]).all(), name
            assert np.isfinite(gradient[1:]).all(), name


class TestParameters:
    def test_they_are_always_in_effect(self, make):
        layer, other = make(2, seed=1), make(2, seed=2)
        x = random_call(layer, T, B).x
        layer(x)
        for name, array in other.parameters.items():
            layer.parameters[name][...] = array
        assert bits(layer(x)[0]) == bits(other(x)[0])

    def test_moving_them_into_a_model_keeps_them_in_effect(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        expected = run(layer, call)
        stream = layer.stream(B)
        joined = parameters.join({"recurrent": layer})
        for name, array in run(layer, call).items():
            np.testing.assert_array_equal(array, expected[name])
        gradient = joined.gradients["recurrent.weight_hh_l1"]
        np.testing.assert_array_equal(gradient, expected["weight_hh_l1"])
        joined.flat_values[...] = 0
        assert bits(layer(call.x)[0][0]) == bits(stream.step(call.x[0]))

    def test_a_copy_is_independent(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        expected = run(layer, call)
        other = copy.deepcopy(layer)
        layer.parameters.flat_values[...] = 0
        layer.zero_gradients()
        for name, array in run(other, call).items():
            np.testing.assert_array_equal(array, expected[name])
        assert not any(array.any() for array in layer.gradients.values())

    def test_a_pickle_has_each_array_once(self):
        layer = fr.GRU(100, 100)
        assert len(pickle.dumps(layer)) < 2.1 * layer.parameters.flat_values.nbytes

    def test_initial_values(self, make, dtype):
        layer = make(2, dtype=dtype)
        drawn = [
            a for n, a in layer.parameters.items() if not n.startswith(("gain", "bias_l", "bias_c"))
        ]
        values = np.concatenate([array.ravel() for array in drawn])
        bound = 1 / np.sqrt(H)
        assert values.dtype == dtype
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
        assert abs(values.mean()) < 0.1 * bound
        again, other = make(2, dtype=dtype), make(2, dtype=dtype, seed=2)
        assert bits(*again.parameters.values()) == bits(*layer.parameters.values())
        assert bits(*other.parameters.values()) != bits(*layer.parameters.values())

    def test_no_bias(self, make):
        layer, other = make(bias=False), make()
        assert not any("bias" in name for name in layer.parameters)
        for name, array in other.parameters.items():
            array[...] = layer.parameters.get(name, 0)
        x = random_call(layer, T, B).x
        np.testing.assert_allclose(layer(x)[0], other(x)[0], rtol=1e-6)


class TestPullback:
    def test_is_used_once(self, make):
        layer = make()
        call = random_call(layer, T, B)
        _, _, pullback = layer.vjp(call.x)
        pullback(call.d_output)
        before = bits(layer.parameters.flat_gradients)
        with pytest.raises(RuntimeError, match="has been used"):
            pullback(call.d_output)
        assert bits(layer.parameters.flat_gradients) == before

    @pytest.mark.parametrize("batch", [1, B, 24])  # rows of a step: hoisted products, and not
    @pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
    def test_the_input_gradient_can_be_left_out(self, make, options, batch):
        layer = make(**options)
        call = random_call(layer, T, batch)
        expected = run(layer, call)
        layer.zero_gradients()
        _, _, pullback = layer.vjp(call.x, call.state, input_gradient=False)
        d_x, d_state = pullback(call.d_output, call.d_state)
        assert d_x is None
        d_states = {f"d_state {k}": array for k, array in enumerate(as_tuple(d_state))}
        for name, array in {**layer.gradients, **d_states}.items():
            np.testing.assert_array_equal(array, expected[name], name)

    def test_input_gradient_is_true_or_false(self):
        with pytest.raises(TypeError, match="input_gradient must be True or False, got int 0"):
            fr.RNN(I, H).vjp(np.zeros((T, B, I)), input_gradient=0)

    def test_a_refused_call_changes_nothing(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        expected = run(layer, call)
        layer.zero_gradients()
        _, _, pullback = layer.vjp(call.x, call.state)
        for arguments in (
            (call.d_output[1:], call.d_state),
            (call.d_output, as_state(a[1:] for a in as_tuple(call.d_state))),
            (call.d_output.astype(complex), call.d_state),
        ):
            with pytest.raises((ValueError, TypeError), match="must be"):
                pullback(*arguments)
        assert not layer.parameters.flat_gradients.any()
        d_x, _ = pullback(call.d_output, call.d_state)
        np.testing.assert_array_equal(d_x, expected["d_x"])

    def test_several_may_be_live_and_add_up(self, make):
        layer = make(2, dtype="float64")
        calls = [random_call(layer, T, B, seed=seed) for seed in (1, 2)]
        expected = [run(layer, call) for call in calls]
        layer.zero_gradients()
        pullbacks = [layer.vjp(call.x, call.state)[2] for call in calls]
        for pullback, call, results in zip(pullbacks, calls, expected):
            d_x, _ = pullback(call.d_output, call.d_state)
            np.testing.assert_array_equal(d_x, results["d_x"])
        for name, gradient in layer.gradients.items():
            total = expected[0][name] + expected[1][name]
            assert_close(gradient, total, TOLERANCES["float64"], name)

    def test_what_is_left_out_of_a_state_is_zero(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B)
        states = as_tuple(call.state)
        for k in (0, 1) if len(states) == 2 else ():
            short, full = list(states), list(states)
            short[k], full[k] = None, np.zeros_like(states[k])
            expected = run(layer, call._replace(state=tuple(full)))
            for name, array in run(layer, call._replace(state=tuple(short))).items():
                np.testing.assert_array_equal(array, expected[name], name)

    def test_what_is_left_out_is_zero(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B)
        states = as_tuple(call.d_state)
        zeros = [np.zeros_like(array) for array in states]
        cases = [
            ((), (np.zeros_like(call.d_output), as_state(zeros))),
            ((call.d_output,), (call.d_output, as_state(zeros))),
            ((None, call.d_state), (np.zeros_like(call.d_output), call.d_state)),
        ]
        if len(states) == 2:
            cases += [
                ((call.d_output, (states[0], None)), (call.d_output, (states[0], zeros[1]))),
                ((call.d_output, (None, states[1])), (call.d_output, (zeros[0], states[1]))),
            ]
        for short, full in cases:
            results = []
            for arguments in (short, full):
                layer.zero_gradients()
                d_x, d_state = layer.vjp(call.x, call.state)[2](*arguments)
                results.append([d_x, *as_tuple(d_state), layer.parameters.flat_gradients.copy()])
            for array, expected in zip(*results):
                np.testing.assert_array_equal(array, expected)

    @pytest.mark.parametrize("lengths", [None, [2, 5, 0, 5]], ids=["full", "lengths"])
    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize("size", [(T, B), (1, B), (T, 1), (1, 1)], ids=str)
    def test_the_caller_may_overwrite_everything(self, make, size, batch_first, lengths):
        steps, rows = size
        layer = make(2, batch_first=batch_first)
        lengths = [min(n, steps) for n in lengths[:rows]] if lengths else None
        call = random_call(layer, steps, rows, lengths)
        expected = run(layer, call)
        layer.zero_gradients()
        output, state, pullback = layer.vjp(call.x, call.state, lengths)
        for array in (call.x, output, *as_tuple(call.state), *as_tuple(state)):
            array[...] = np.nan
        d_x, d_state = pullback(call.d_output, call.d_state)
        np.testing.assert_array_equal(d_x, expected["d_x"])
        for k, array in enumerate(as_tuple(d_state)):
            np.testing.assert_array_equal(array, expected[f"d_state {k}"])
        for name, gradient in layer.gradients.items():
            np.testing.assert_array_equal(gradient, expected[name], name)

    def test_runs_on_the_backend_of_its_vjp(self, make, backend):
        layer = make(2)
        call = random_call(layer, T, B)
        expected = run(layer, call)
        _, _, pullback = layer.vjp(call.x, call.state)
        with fr.use_backend("reference"):
            d_x, _ = pullback(call.d_output, call.d_state)
        np.testing.assert_array_equal(d_x, expected["d_x"])


class TestInference:
    def test_is_the_forward_pass_of_vjp(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B, [2, 5, 0, 5])
        output, state = layer(call.x, call.state, call.lengths)
        trained, last, _ = layer.vjp(call.x, call.state, call.lengths)
        limit = TOLERANCES["float32"]
        assert_close(output, trained, limit)
        for array, expected in zip(as_tuple(state), as_tuple(last)):
            assert_close(array, expected, limit)

    def test_keeps_nothing_alive(self, make):
        layer = make()
        x = random_call(layer, T, B).x
        reference = weakref.ref(x)
        output, _ = layer(x)
        result = weakref.ref(output)
        del x, output
        assert reference() is None
        assert result() is None

    def test_keeps_no_outputs_of_layers_that_have_been_read(self, make, monkeypatch):
        backend, outputs, alive = active_backend(), [], []
        empty = backend.empty

        def counted(shape, dtype):
            array = empty(shape, dtype)
            outputs.append(weakref.ref(array))
            alive.append(sum(output() is not None for output in outputs))
            return array

        monkeypatch.setattr(backend, "MOST_KEPT", 0)
        monkeypatch.setattr(backend, "empty", counted)
        make(5)(np.zeros((T, B, I)))
        assert alive == [1, 2, 2, 2, 2]

    def test_keeps_no_offsets_of_long_sequences(self):
        packing = packing_of((100_000, 1), False, None, ("x", "lengths"))
        offsets = weakref.ref(packing.offsets)
        del packing
        assert offsets() is None

    def test_is_thread_safe(self, make):
        layer = make(2, bidirectional=True)
        inputs = [random_call(layer, T, B, seed=seed).x for seed in range(8)]
        expected = [bits(layer(x)[0]) for x in inputs]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                assert [bits(output) for output, _ in pool.map(layer, inputs)] == expected

    def test_repeats_to_the_bit(self, make):
        layer = make(2, bidirectional=True)
        call = random_call(layer, T, B)
        first, second = run(layer, call), run(layer, call)
        assert bits(*first.values()) == bits(*second.values())


class TestDropout:
    def test_is_drawn_by_vjp_alone(self, make):
        layer, plain = make(3, dropout=0.5), make(3)
        x = random_call(layer, T, B).x
        assert bits(layer(x)[0]) == bits(plain(x)[0])
        first, second = layer.vjp(x)[0], layer.vjp(x)[0]
        assert bits(first) != bits(second)
        again = make(3, dropout=0.5)
        assert bits(again.vjp(x)[0], again.vjp(x)[0]) == bits(first, second)

    def test_leaves_the_last_layer_alone(self, make):
        layer, plain = make(1, dropout=0.5), make(1)
        x = random_call(layer, T, B).x
        assert bits(layer.vjp(x)[0]) == bits(plain.vjp(x)[0])

    def test_of_all_leaves_the_next_layer_without_input(self, make):
        layer = make(2, dropout=1.0)
        call = random_call(layer, T, B)
        output, _, pullback = layer.vjp(call.x)
        d_x, _ = pullback(call.d_output)
        assert not d_x.any()
        other = layer.vjp(call.x + 1)[0]
        np.testing.assert_array_equal(output, other)

    def test_gradients(self, make):
        layer = make(3, dropout=0.5, dtype="float64")
        call = random_call(layer, T, B)
        start = layer.generator.bit_generator.state

        def forward():
            layer.generator.bit_generator.state = start
            return layer.vjp(call.x, call.state)

        d_x, _ = forward()[2](call.d_output)
        direction = np.random.default_rng(1).standard_normal(call.x.shape)
        losses = []
        for sign in (1, -1):
            call.x[...] += sign * 1e-6 * direction
            losses.append(np.sum(forward()[0] * call.d_output))
            call.x[...] -= sign * 1e-6 * direction
        expected = (losses[0] - losses[1]) / 2e-6
        assert_close(np.sum(d_x * direction), expected, CENTRAL_DIFFERENCES)


class TestStream:
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_steps_are_those_of_the_layer(self, make, batch_size, dtype):
        layer = make(3, dtype=dtype)
        call = random_call(layer, T, batch_size)
        expected, last = layer(call.x, call.state)
        stream = layer.stream(batch_size)
        stream.state = call.state
        outputs = [stream.step(x) for x in call.x]
        assert_close(np.stack(outputs), expected, TOLERANCES[dtype])
        for array, final in zip(as_tuple(stream.state), as_tuple(last)):
            assert_close(array, final, TOLERANCES[dtype])

    def test_one_sequence_without_a_batch_axis(self, make):
        layer = make(2)
        x = random_call(layer, T, 1).x
        stream, other = layer.stream(), layer.stream()
        for step in x:
            y = stream.step(step[0])
            assert y.shape == (layer.output_size,)
            assert bits(y) == bits(other.step(step))
        _, state = layer(x[:, 0])
        stream.state = state
        for array, expected in zip(as_tuple(stream.state), as_tuple(state)):
            np.testing.assert_array_equal(array[:, 0], expected)

    def test_starts_at_zero_and_can_be_reset(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        stream = layer.stream(B)
        assert not any(array.any() for array in as_tuple(stream.state))
        first = stream.step(call.x[0])
        assert bits(stream.step(call.x[0])) != bits(first)
        stream.reset()
        assert bits(stream.step(call.x[0])) == bits(first)
        stream.state = None
        assert bits(stream.step(call.x[0])) == bits(first)

    def test_state_is_a_copy(self, make):
        layer = make(2)
        call = random_call(layer, T, B)
        stream, other = layer.stream(B), layer.stream(B)
        stream.state = other.state = call.state
        for array in (*as_tuple(call.state), *as_tuple(stream.state)):
            array[...] = np.nan
        before = stream.state
        assert bits(stream.step(call.x[0])) == bits(other.step(call.x[0]))
        assert not any(np.isnan(array).any() for array in as_tuple(before))

    def test_a_stream_says_how_it_is_copied(self, make):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="make another and set its state"):
                duplicate(make(1).stream())

    def test_outputs_are_not_overwritten(self, make):
        layer = make(2)
        x = random_call(layer, T, B).x
        stream = layer.stream(B)
        first = stream.step(x[0])
        copied = first.copy()
        stream.step(x[1])
        np.testing.assert_array_equal(first, copied)
        first[...] = np.nan
        assert np.isfinite(stream.step(x[2])).all()

    @pytest.mark.parametrize("view", [memoryview, np.transpose])
    def test_views_of_outputs_are_not_overwritten(self, make, view):
        layer = make(2)
        x = random_call(layer, T, B).x
        stream, other = layer.stream(B), layer.stream(B)
        held = [view(stream.step(step)) for step in x]
        for found, step in zip(held, x, strict=True):
            np.testing.assert_array_equal(found, view(other.step(step)))

    @pytest.mark.parametrize(
        "change",
        [lambda y: y.setflags(write=False), lambda y: y.resize((1, 1), refcheck=False)],
        ids=["read-only", "resized"],
    )
    def test_outputs_that_were_changed_are_no_harm(self, make, change):
        layer = make(2)
        x = random_call(layer, T, B).x
        stream, other = layer.stream(B), layer.stream(B)
        for step in x:
            y = stream.step(step)
            np.testing.assert_array_equal(y, other.step(step), strict=True)
            assert y.flags.writeable
            change(y)

    def test_out(self, make):
        layer = make(2)
        x = random_call(layer, T, B).x
        stream, other = layer.stream(B), layer.stream(B)
        out = np.empty((B, layer.output_size), np.float32)
        for step in x:
            assert stream.step(step, out=out) is out
            np.testing.assert_array_equal(out, other.step(step))

    def test_out_in_any_layout(self, make):
        layer = make(2)
        P = layer.output_size
        memory = np.empty((B, 2 * P), np.float32)
        for out in (
            memory[:, ::2],
            memory[:, 1 : P + 1],
            memory[::-1, :P],
            np.empty((P, B), np.float32).T,
        ):
            memory.fill(7)
            expected = memory.copy()
            x = random_call(layer, T, B).x[0]
            assert layer.stream(B).step(x, out=out) is out
            np.testing.assert_array_equal(out, layer.stream(B).step(x))
            out[...] = 7  # nothing else was written to
            np.testing.assert_array_equal(memory, expected)

    def test_what_is_read_only_is_read(self, make):
        layer = make(2)
        x = random_call(layer, T, B).x[0]
        expected = layer.stream(B).step(x)
        x.flags.writeable = False  # as what numpy.frombuffer returns
        assert bits(layer.stream(B).step(x)) == bits(expected)

    def test_is_gone_with_its_last_reference(self, make):
        stream = make(2).stream(B)
        references = weakref.ref(stream), weakref.ref(stream.layer)
        gc.disable()
        try:
            del stream
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()

    def test_parameters_are_always_in_effect(self, make):
        layer, other = make(2, seed=1), make(2, seed=2)
        x = random_call(layer, T, B).x
        stream = layer.stream(B)
        stream.step(x[0])
        stream.reset()
        layer.parameters["weight_hh_l0"][...] = other.parameters["weight_hh_l0"]
        layer.load_state_dict(other.state_dict())
        expected = other.stream(B)
        for step in x:
            assert bits(stream.step(step)) == bits(expected.step(step))

    def test_what_is_refused_changes_nothing(self, make):
        layer = make(2)
        x = random_call(layer, T, B).x[0]
        stream, other = layer.stream(B), layer.stream(B)
        P = layer.output_size
        read_only = np.empty((B, P), np.float32)
        read_only.flags.writeable = False
        for arguments, message in [
            ((x[0],), "^x must be"),
            ((x[:, 1:],), "^x must be"),
            ((x[None],), "^x must be"),
            ((x.astype(complex),), "^x must be"),
            ((x, np.empty((B, P))), "^out must be a float32 array, got float64"),
            ((x, np.empty((B, P + 1), np.float32)), "^out must be"),
            ((x, [0.0]), "^out must be a float32 array, got list"),
            ((x, read_only), "^out must be writable"),
        ]:
            with pytest.raises((TypeError, ValueError), match=message):
                stream.step(*arguments)
        with pytest.raises((TypeError, ValueError), match=r"^(h0|state) must be"):
            stream.state = np.zeros((2, B + 1, P))
        assert bits(stream.step(x)) == bits(other.step(x))

    @pytest.mark.parametrize("batch_size", [0, -1, 1.0, True, None])
    def test_batch_size_is_a_positive_integer(self, make, batch_size):
        layer = make()
        with pytest.raises((TypeError, ValueError), match="batch_size must be a positive integer"):
            layer.stream(batch_size)

    @pytest.mark.parametrize("batch_size", [2**48, 2**60, 2**70])
    def test_more_sequences_than_memory_holds_are_named(self, make, batch_size):
        with pytest.raises(MemoryError, match=rf"^batch_size must be .* got {batch_size}$"):
            make().stream(batch_size)

    def test_a_bidirectional_layer_refuses(self, make):
        layer = make(bidirectional=True)
        with pytest.raises(ValueError, match="bidirectional"):
            layer.stream()
