"""The loop and its callbacks."""

import csv
import io
import itertools
import json
import math
import os
import signal
import sys
import threading
import time
import weakref
from typing import NamedTuple

import numpy as np
import pytest

from fastrnn.data import Batches, Padded, Windows
from fastrnn.layers import LSTM
from fastrnn.models import (
    LanguageModel,
    Model,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
)
from fastrnn.optim import SGD, Adam, ExponentialDecay, clip_gradient_norm
from fastrnn.parameters import Parameters, join
from fastrnn.training import (
    Callback,
    Checkpoint,
    CheckpointError,
    EarlyStopping,
    EpochReport,
    HistoryFile,
    LearningCurve,
    ProgressBar,
    ReduceOnPlateau,
    RestoreBest,
    Trainer,
    evaluate,
    fit,
    load_checkpoint,
    save_checkpoint,
)

IDS = np.arange(61) * 7 % 5


def make_trainer(*callbacks, clip=5.0, **options):
    model = LanguageModel(5, 6, **{"seed": 1, **options})
    return Trainer(model, Adam(model.parameters, 0.01), clip=clip, callbacks=callbacks)


class Scripted(Model):
    """A model of one parameter whose losses are given; it notes how it is called."""

    def __init__(self, losses=(), validation_losses=(), gradient=1.0):
        self.parameters = Parameters({"w": (1,)}, "float64")
        self.config, self.generators = {}, {}
        self.losses, self.validation_losses = iter(losses), iter(validation_losses)
        self.gradient = gradient
        self.calls, self.pullbacks = [], []

    def loss(self, inputs, targets, state=None):
        self.calls.append(("loss", int(inputs[0, 0]), state))
        return next(self.validation_losses, 1.0), (state or 0) + 1

    def loss_vjp(self, inputs, targets, state=None):
        self.calls.append(("vjp", int(inputs[0, 0]), state))

        def pullback():
            self.gradients["w"][...] += self.gradient

        self.pullbacks.append(weakref.ref(pullback))
        return next(self.losses, 1.0), (state or 0) + 1, pullback


def make_scripted(*callbacks, clip=None, **script):
    model = Scripted(**script)
    return Trainer(model, SGD(model.parameters, 0.5), clip=clip, callbacks=callbacks)


BATCHES = [(np.full((1, 2), k), np.full((1, 2), k)) for k in range(3)]
VALIDATION = [(np.full((1, size), 9), np.full((1, size), 9)) for size in (3, 1)]


class Log(Callback):
    def __init__(self):
        self.events = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda trainer: self.events.append(name[3:])
        return super().__getattribute__(name)


def test_the_loop_reads_everything_in_order_and_carries_the_state():
    log = Log()
    trainer = make_scripted(log, losses=[1, 2, 3, 4, 5, 6], validation_losses=[1, 5, 2, 2])
    trainer.fit(BATCHES, 2, VALIDATION)
    epoch = [("vjp", 0, None), ("vjp", 1, 1), ("vjp", 2, 2), ("loss", 9, None), ("loss", 9, 1)]
    assert trainer.model.calls == epoch * 2
    steps = ["epoch_begin", "step_end", "step_end", "step_end", "epoch_end"]
    assert log.events == ["train_begin", *steps, *steps, "train_end"]
    rows = [{"step": 3, "training_loss": 2.0}, {"step": 6, "training_loss": 5.0}]
    # A batch counts by its number of targets: (3 * 1 + 1 * 5) / 4.
    for number, (row, score) in enumerate(zip(rows, (2.0, 2.0)), 1):
        row.update(epoch=number, learning_rate=0.5, validation_loss=score)
    assert trainer.history == rows
    # Each step of SGD moved by 0.5 times a gradient of 1: none was left over from the step before.
    assert trainer.model.parameters["w"] == -3.0


def test_a_trainer_tells_its_loss_during_and_after_an_epoch():
    seen = []

    class Look(Callback):
        def on_step_end(self, trainer):
            seen.append(trainer.loss)

        def on_epoch_end(self, trainer):
            seen.append(trainer.loss)

    trainer = make_scripted(Look(), losses=[1, 2, 3, 4, 5, 6])
    assert np.isnan(trainer.loss)
    assert repr(trainer) == "<Trainer of a Scripted: epoch 0, step 0, loss nan>"
    trainer.fit(BATCHES, 2)
    assert seen == [1, 1.5, 2, 2, 4, 4.5, 5, 5]
    assert trainer.loss == trainer.history[-1]["training_loss"] == 5
    assert repr(trainer) == "<Trainer of a Scripted: epoch 2, step 6, loss 5>"


def test_fit_goes_on_where_it_ended():
    once, twice = make_trainer(), make_trainer()
    windows = Windows(IDS, 2, 5)
    once.fit(windows, 3, windows)
    twice.fit(windows, 1, windows)
    twice.fit(windows, 3, windows)
    twice.fit(windows, 2, windows)
    assert twice.history == once.history
    assert np.array_equal(once.model.parameters.flat_values, twice.model.parameters.flat_values)


def test_a_part_of_a_model_is_trained_by_an_optimizer_of_its_parameters():
    model = LanguageModel(5, 6, seed=1)
    before = model.state_dict()
    Trainer(model, SGD(model.output.parameters, 0.1)).fit(Windows(IDS, 2, 10), 1)
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert changed == {"output.weight", "output.bias"}


def test_the_loop_is_the_one_written_by_hand():
    trainer = make_trainer(clip=0.05, dropout=0.3, num_layers=2)
    windows = Windows(IDS, 2, 5)
    trainer.fit(windows, 1)

    model = LanguageModel(5, 6, num_layers=2, dropout=0.3, seed=1)
    optimizer, state, losses = Adam(model.parameters, 0.01), None, []
    for inputs, targets in windows:
        model.zero_gradients()
        loss, state, pullback = model.loss_vjp(inputs, targets, state)
        pullback()
        assert clip_gradient_norm(model.parameters, 0.05) > 0.05
        optimizer.step()
        losses.append(loss)
    assert np.array_equal(trainer.model.parameters.flat_values, model.parameters.flat_values)
    assert math.isclose(trainer.history[0]["training_loss"], sum(losses) / len(losses))


def test_fit_hands_on_all_its_arguments():
    model, twin = (LanguageModel(5, 6, seed=1) for _ in range(2))
    windows, log, schedule = Windows(IDS, 2, 5), Log(), ExponentialDecay(0.9)
    options = {"schedule": schedule, "clip": 0.1, "validation": windows, "callbacks": [log]}
    trainer = fit(model, windows, 2, learning_rate=0.5, optimizer="sgd", progress=False, **options)
    expected = Trainer(twin, SGD(twin.parameters, 0.5, schedule=schedule), clip=0.1)
    expected.fit(windows, 2, windows)
    assert trainer.history == expected.history
    assert trainer.callbacks == [log]
    assert isinstance(fit(model, windows, 1).callbacks[0], ProgressBar)


def test_frozen_layers_stay_as_they_are(tmp_path):
    windows, path = Windows(IDS, 2, 5), tmp_path / "run"
    model = LanguageModel(5, 6, embedding_size=4, seed=1)
    embedding = model.encoder.embedding.parameters
    embedding.freeze(*embedding)
    before = model.state_dict()
    fit(model, windows, 2, callbacks=[Checkpoint(path)])
    same = [name for name, value in before.items() if np.array_equal(value, model.parameters[name])]
    assert same == ["encoder.embedding.weight"]
    embedding.unfreeze(*embedding)
    with pytest.raises(
        CheckpointError, match=r"those of the run, encoder\.embedding\.weight, got none"
    ):
        fit(model, windows, 3, resume=path)
    embedding.freeze(*embedding)
    fit(model, windows, 3, resume=path)
    model.parameters.freeze(*model.parameters)
    with pytest.raises(ValueError, match="all parameters of the model are frozen"):
        fit(model, windows, 1)


def test_the_history_has_the_rate_of_the_last_step():
    model = Scripted()
    trainer = Trainer(model, SGD(model.parameters, 0.5, schedule=ExponentialDecay(0.5)))
    trainer.fit(BATCHES, 2)
    assert [row["learning_rate"] for row in trainer.history] == [0.5 * 0.5**2, 0.5 * 0.5**5]


@pytest.mark.parametrize("number", [np.float32, np.float16, np.array])
def test_a_schedule_may_return_any_number(tmp_path, number):
    trainer = make_scripted(Checkpoint(tmp_path / "m"), HistoryFile(tmp_path / "h.json"))
    trainer.optimizer.schedule = lambda steps: number(0.5)
    trainer.fit(BATCHES, 1)
    assert trainer.history[0]["learning_rate"] == 0.25
    trainer.load_state_dict(load_checkpoint(tmp_path / "m"))


def test_the_best_epoch_is_restored():
    trainer = make_scripted(RestoreBest(), validation_losses=[3, 3, 1, 1, 2, 2])
    seen = []

    class Look(Callback):
        def on_epoch_end(self, trainer):
            seen.append(trainer.model.parameters["w"].item())

    trainer.callbacks.append(Look())
    trainer.fit(BATCHES, 3, VALIDATION)
    assert len(set(seen)) == 3
    assert trainer.model.parameters["w"] == seen[1]


def test_best_and_last_are_two_files(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "m")
    for best in ("m", "link", "../" + tmp_path.name + "/m"):
        with pytest.raises(ValueError, match="best_path must be another file than path"):
            Checkpoint(tmp_path / "m", tmp_path / best)


def test_there_must_be_something_to_evaluate():
    with pytest.raises(TypeError, match="batches must be pairs of inputs and targets, got None"):
        evaluate(Scripted(), None)


def test_validation_is_one_reading_of_the_whole_text():
    trainer = make_trainer()
    trainer.fit(Windows(IDS, 2, 5), 3, Windows(IDS, 1, 7, keep_rest=True))
    expected, _ = trainer.model.loss(IDS[:-1], IDS[1:])
    assert math.isclose(trainer.history[-1]["validation_loss"], expected, rel_tol=1e-6)
    again = evaluate(trainer.model, Windows(IDS, 1, 7, keep_rest=True))
    assert again == trainer.history[-1]["validation_loss"]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_regular_text_is_learnt(cell):
    trainer = make_trainer(cell=cell)
    windows = Windows(IDS, 2, 5)
    trainer.fit(windows, 60, windows)
    assert trainer.history[0]["training_loss"] > 1.5
    assert trainer.history[-1]["validation_loss"] < 0.05


def test_no_tape_outlives_its_step():
    alive = []

    class Count(Callback):
        def on_step_end(self, trainer):
            alive.append(sum(r() is not None for r in trainer.model.pullbacks))

    make_scripted(Count()).fit(BATCHES, 2)
    assert alive == [0] * 6


@pytest.mark.parametrize(
    ("script", "quantity"),
    [
        ({"losses": [1, math.nan]}, "loss became nan in epoch 1, step 2"),
        ({"losses": [1, 1, math.inf]}, "loss became inf in epoch 1, step 3"),
        ({"gradient": math.nan}, "gradient norm became nan in epoch 1, step 1"),
        (
            {"validation_losses": [1, 1, math.nan]},
            "validation loss became nan in epoch 2, after step 6",
        ),
    ],
)
@pytest.mark.parametrize("clip", [None, 5.0])
def test_divergence_stops_before_the_update(script, quantity, clip, tmp_path):
    log = Log()
    checkpoint = Checkpoint(tmp_path / "last", tmp_path / "best", every_seconds=0)
    trainer = make_scripted(log, checkpoint, clip=clip, **script)
    with pytest.raises(FloatingPointError, match=quantity) as error:
        trainer.fit(BATCHES, 2, VALIDATION)
    assert "lower learning rate (now 0.5)" in str(error.value)
    assert ("clip (now 5) harder" if clip else "clip the gradients") in str(error.value)
    assert np.isfinite(trainer.model.parameters["w"]).all()
    assert log.events[-1] == "train_end"
    # What was saved before is still there, and finite.
    saved = load_checkpoint(tmp_path / "last")
    assert saved["progress"]["step"] == trainer.step
    assert np.isfinite(saved["model"]["w"]).all()
    assert (tmp_path / "best").exists() == bool(trainer.history)


@pytest.mark.parametrize("wrong", [math.nan, -math.inf, 1e40])
@pytest.mark.parametrize("kind", [np.asarray, list])
def test_data_that_are_not_finite_are_no_divergence(wrong, kind):
    vectors = np.ones((4, 3, 2))
    vectors[3, 2, 1] = wrong
    model = SequenceRegressor(2, 3, inputs="vectors", seed=0)
    with pytest.raises(FloatingPointError, match=r"step \d: inputs or targets hold NaN"):
        fit(model, Batches(kind(vectors), np.ones(4), 2), 1)


def test_validation_data_that_are_not_finite_are_no_divergence():
    vectors = np.ones((4, 3, 2))
    batches, validation = (Batches(x, np.ones(4), 2) for x in (vectors, vectors * math.nan))
    model = SequenceRegressor(2, 3, inputs="vectors", seed=0)
    with pytest.raises(FloatingPointError, match=r"validation loss .*: inputs or targets hold NaN"):
        fit(model, batches, 1, validation=validation)


def test_what_pads_may_be_anything_where_training_diverges():
    padded = Padded(np.array([[[1.0]], [[np.nan]]]), np.array([1]))
    model = SequenceRegressor(1, 3, inputs="vectors", seed=0)
    with pytest.raises(FloatingPointError, match="diverged"):
        fit(model, [(padded, np.full(1, 3e38))], 2)


def test_parameters_without_end_stop_training_after_the_epoch():
    trainer = make_scripted(gradient=1e150)
    trainer.optimizer.learning_rate = 1e200
    with pytest.raises(FloatingPointError, match="largest parameter became inf in epoch 1"):
        trainer.fit(BATCHES, 2)


def test_what_a_state_dict_holds_stays_as_it_is():
    trainer = make_scripted()
    trainer.fit(BATCHES, 1)
    trainer.state = np.ones(1)
    saved = trainer.state_dict()
    trainer.state[:] = 0
    trainer.fit(BATCHES, 2)
    assert saved["state"]["0"].all()
    assert len(saved["progress"]["history"]) == 1


class Interrupt(Callback):
    """Ctrl-C while a given step is being made."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_train_begin(self, trainer):
        original = trainer.model.loss_vjp

        def loss_vjp(*arguments):
            if trainer.step + 1 == self.step:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGINT)
            return original(*arguments)

        trainer.model.loss_vjp = loss_vjp


def test_an_interrupt_waits_for_the_step_to_end_and_saves(tmp_path):
    log = Log()
    trainer = make_scripted(Interrupt(step=2), Checkpoint(tmp_path / "last"), log)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(BATCHES, 2)
    assert load_checkpoint(tmp_path / "last")["progress"]["step"] == 2
    assert (trainer.step, trainer.model.parameters["w"]) == (2, -1.0)
    assert log.events[-3:] == ["step_end", "interrupt", "train_end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_does_not_wait_and_saves_nothing():
    log = Log()
    trainer = make_scripted(Interrupt(step=2, times=2), log)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(BATCHES, 2)
    assert trainer.step == 1
    assert log.events[-1] == "train_end"
    assert "interrupt" not in log.events


@pytest.mark.parametrize("moment", ["validation", "epoch_end"])
def test_an_interrupt_around_validation_can_be_resumed(moment):
    raised = []

    class InValidation(Callback):
        def on_epoch_end(self, trainer):
            if moment == "epoch_end" and not raised:
                raised.append(signal.raise_signal(signal.SIGINT))

    def validation():
        if moment == "validation" and not raised:
            raised.append(signal.raise_signal(signal.SIGINT))
        yield from VALIDATION

    class Again:
        __iter__ = staticmethod(validation)

    trainer = make_scripted(InValidation(), losses=[1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(BATCHES, 1, Again())
    assert trainer.epoch == (moment == "epoch_end")
    trainer.fit(BATCHES, 1, Again())
    assert [row["training_loss"] for row in trainer.history] == [2.0]
    assert trainer.step == 3


def test_an_interrupt_after_the_last_step_is_not_lost():
    class Late(Callback):
        def on_train_end(self, trainer):
            signal.raise_signal(signal.SIGINT)

    trainer = make_scripted(Late())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(BATCHES, 1)
    assert trainer.epoch == 1


class Raise(Callback):
    """Fail at one event."""

    def __init__(self, event):
        def fail(trainer):
            raise RuntimeError(event)

        setattr(self, f"on_{event}", fail)


def test_those_that_have_begun_are_ended_where_another_does_not_begin():
    before, after = Log(), Log()
    trainer = make_scripted(before, Raise("train_begin"), after)
    with pytest.raises(RuntimeError, match="train_begin"):
        trainer.fit(BATCHES, 1)
    assert (before.events, after.events) == (["train_begin", "train_end"], [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("event", ["train_end", "interrupt"])
def test_an_error_at_the_end_keeps_nobody_from_ending(event, tmp_path):
    logs = Log(), Log()
    saves = Checkpoint(tmp_path / "last")
    trainer = make_scripted(logs[0], Interrupt(step=2), Raise(event), saves, logs[1])
    with pytest.raises(RuntimeError, match=event):
        trainer.fit(BATCHES, 1)
    assert load_checkpoint(tmp_path / "last")["progress"]["step"] == 2
    for log in logs:
        assert log.events[-3:] == ["step_end", "interrupt", "train_end"]


def test_the_end_comes_in_the_order_of_the_callbacks():
    order = []

    class End(Callback):
        def on_train_end(self, trainer):
            order.append(self)

    callbacks = End(), End(), End()
    make_scripted(*callbacks).fit(BATCHES, 1)
    assert order == list(callbacks)


def test_a_callback_may_stop_training_which_another_fit_goes_on_with():
    class Stop(Callback):
        def on_step_end(self, trainer):
            trainer.stop_reason = "enough"

    trainer = make_scripted(Stop())
    trainer.fit(BATCHES, 2)
    assert (trainer.epoch, trainer.step) == (1, 3)
    trainer.callbacks = []
    trainer.fit(BATCHES, 2)
    assert (trainer.epoch, trainer.stop_reason) == (2, None)


def test_numbers_without_end_are_not_warned_of():
    class Compute(Callback):
        def on_step_end(self, trainer):
            large = np.full(1, 1e300)
            large *= large
            large -= large

    make_scripted(Compute()).fit(BATCHES, 1)


def test_training_works_in_a_thread_and_leaves_others_handlers_alone():
    trainer = make_scripted()
    thread = threading.Thread(target=trainer.fit, args=(BATCHES, 1))
    thread.start()
    thread.join()
    assert trainer.epoch == 1

    seen = []
    previous = signal.signal(signal.SIGINT, lambda *_: seen.append(True))
    try:
        trainer = make_scripted(Interrupt(step=2))
        trainer.fit(BATCHES, 1)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (trainer.epoch, seen) == (1, [True])


@pytest.mark.parametrize(
    ("losses", "options", "epochs"),
    [
        ([5, 4, 3, 2, 1], {"patience": 1}, 5),
        ([5, 4, 4, 4, 4], {"patience": 1}, 3),
        ([5, 4, 4.5, 3, 3.5, 3.2, 1], {"patience": 2}, 6),
        ([5, 4.9, 4.8, 4.7, 4.6], {"patience": 2, "min_delta": 0.5}, 3),
    ],
)
def test_early_stopping_after_a_resume_too(losses, options, epochs):
    validation = VALIDATION[:1]
    trainer = make_scripted(EarlyStopping(**options), validation_losses=losses)
    trainer.fit(BATCHES, len(losses), validation)
    assert trainer.epoch == epochs
    if epochs < len(losses):
        assert "no better epoch than" in trainer.stop_reason

    resumed = make_scripted(EarlyStopping(**options), validation_losses=losses)
    for epoch in range(1, len(losses) + 1):
        resumed.callbacks = [EarlyStopping(**options)]  # as in another process
        resumed.fit(BATCHES, epoch, validation)
    assert resumed.history == trainer.history


def test_who_trains_on_after_an_early_stop_has_patience_anew():
    losses = [5, 4, 4, 4, 6, 5.5, 5.6, 5.7, 1]
    trainer = make_scripted(EarlyStopping(patience=2), validation_losses=losses)
    trainer.fit(BATCHES, 9, VALIDATION[:1])
    assert trainer.epoch == 4
    trainer.fit(BATCHES, 9, VALIDATION[:1])
    assert trainer.epoch == 8  # epoch 6 is the best since
    assert trainer.stop_reason == "no better epoch than 6 in 2 epochs"


class Stop(Callback):
    """Ends training as a power cut would, after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer):
        if trainer.epoch == self.epoch:
            raise ConnectionError


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_resumed_run_restores_the_best_of_all_its_epochs(cut, tmp_path):
    path, best_path = tmp_path / "run", tmp_path / "best"
    losses = [3, 3, 1, 1, 2, 2, 4, 4]

    def run(*last, losses=losses, epochs=4, resume=None):
        model = Scripted(validation_losses=losses)
        callbacks = [RestoreBest(), Checkpoint(path, best_path), *last]
        options = {"validation": VALIDATION, "callbacks": callbacks, "resume": resume}
        fit(model, BATCHES, epochs, optimizer="sgd", learning_rate=0.1, **options)
        return model.parameters["w"].item()

    expected = run()
    path.unlink()
    with pytest.raises(ConnectionError):
        run(Stop(cut))
    assert run(losses=losses[2 * cut :], resume=path) == expected
    best_path.unlink()
    if cut > 2:
        with pytest.warns(RuntimeWarning, match="parameters of epoch 2, the best so far, are not"):
            assert run(losses=losses[2 * cut :], resume=path) != expected


def test_a_run_that_is_killed_between_its_two_files_writes_the_best_again(tmp_path, monkeypatch):
    path, best_path = tmp_path / "run", tmp_path / "best"
    losses = [3, 3, 1, 1, 2, 2, 4, 4]
    saved = []

    def save(*arguments):
        saved.append(arguments)
        if len(saved) == 5:  # before the first step, twice after epoch 1, and after 2, the best
            raise ConnectionError
        save_checkpoint(*arguments)

    monkeypatch.setattr("fastrnn.training.callbacks.save_checkpoint", save)
    callbacks = [Checkpoint(path, best_path)]
    with pytest.raises(ConnectionError):
        fit(
            Scripted(validation_losses=losses),
            BATCHES,
            4,
            validation=VALIDATION,
            callbacks=callbacks,
        )
    resumed = Scripted(validation_losses=losses[2:])
    fit(resumed, BATCHES, 4, validation=VALIDATION, callbacks=callbacks, resume=path)
    assert load_checkpoint(best_path)["progress"]["epoch"] == 2
    assert load_checkpoint(path)["progress"]["epoch"] == 4


def test_the_best_of_calls_that_train_on():
    trainer = make_scripted(RestoreBest(), validation_losses=[3, 3, 1, 1, 2, 2, 4, 4])
    trainer.fit(BATCHES, 2, VALIDATION)
    best = trainer.model.parameters["w"].item()
    trainer.fit(BATCHES, 4, VALIDATION)
    assert trainer.model.parameters["w"] == best


def test_an_optimiser_is_of_the_model_or_of_a_part_of_it():
    model, other = LanguageModel(5, 6, seed=0), LanguageModel(5, 6, seed=0)
    before = model.state_dict()
    Trainer(model, Adam(model.output.parameters)).fit(Windows(IDS, 2, 5), 1)
    same = [name for name in before if np.array_equal(before[name], model.parameters[name])]
    assert same == [name for name in before if not name.startswith("output.")]
    with pytest.raises(ValueError, match=r"optimizer must be of model\.parameters"):
        Trainer(model, Adam(join({"model": model, "other": other})))


def test_a_batch_of_empty_sequences_is_left_out():
    names = [np.array([1, 2, 3]), np.array([4, 1]), *[np.zeros(0, int)] * 4]
    batches = Batches(names, names, 2)
    full = Batches(names[:2], names[:2], 2)
    models = [LanguageModel(5, 6, seed=0) for _ in range(2)]
    trainers = [
        fit(model, part, 3, validation=part, learning_rate=0.1)
        for model, part in zip(models, (batches, full))
    ]
    for ours, expected in zip(*[trainer.history for trainer in trainers]):
        for name in ("training_loss", "validation_loss"):
            assert ours[name] == expected[name]
    assert [trainer.step for trainer in trainers] == [9, 3]
    empty = Batches(names[2:], names[2:], 2)
    with pytest.raises(ValueError, match="nothing to train on: no batch has a target"):
        fit(LanguageModel(5, 6), empty, 1)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(LanguageModel(5, 6), empty)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_without_being_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    trainer = make_trainer(Checkpoint(tmp_path / "pipe"))
    with pytest.raises(FileExistsError, match="is not a regular file"):
        trainer.fit(Windows(IDS, 2, 5), 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64, float])
def test_a_loss_may_be_any_float(kind, tmp_path):
    class Own(LanguageModel):
        def loss(self, *arguments):
            loss, state = super().loss(*arguments)
            return kind(loss), state

        def loss_vjp(self, *arguments):
            loss, *rest = super().loss_vjp(*arguments)
            return kind(loss), *rest

    windows = Windows(IDS, 2, 5)
    callbacks = [Checkpoint(tmp_path / "run"), HistoryFile(tmp_path / "history.json")]
    trainer = fit(Own(5, 6), windows, 1, validation=windows, callbacks=callbacks)
    assert {type(value) for value in trainer.history[0].values()} <= {int, float}


def test_early_stopping_without_validation_looks_at_the_training_loss():
    trainer = make_scripted(EarlyStopping(1), losses=[1, 1, 1, 2, 2, 2])
    trainer.fit(BATCHES, 9)
    assert trainer.epoch == 2


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_learning_rate_is_lowered_as_by_pytorch(patience, tmp_path):
    torch = pytest.importorskip("torch")
    losses = list(np.random.default_rng(0).integers(0, 20, 25) / 4)
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, factor=0.5, patience=patience - 1, threshold=0, eps=0
    )
    path = tmp_path / "run"

    class Stop(Callback):  # what a resumed run does not know of must not count
        def on_epoch_end(self, trainer):
            trainer.stop_reason = "after each epoch"

    for k, loss in enumerate(losses):
        callbacks = [ReduceOnPlateau(0.5, patience), Checkpoint(path), Stop()]
        trainer = make_scripted(*callbacks, validation_losses=[loss])
        if k:
            trainer.load_state_dict(load_checkpoint(path))
        trainer.fit(BATCHES, 99, VALIDATION[:1])
        schedule.step(loss)
        assert trainer.optimizer.learning_rate == theirs.param_groups[0]["lr"]
    assert trainer.optimizer.learning_rate < 0.05


def test_the_best_and_the_last_epoch_are_saved(tmp_path):
    checkpoint = Checkpoint(tmp_path / "last", tmp_path / "best", sections={"note": {"a": [1]}})
    trainer = make_scripted(checkpoint, validation_losses=[3, 1, 2, 1])
    for epoch, best in enumerate((1, 2, 2, 2), 1):
        trainer.fit(BATCHES, epoch, VALIDATION[:1])
        for name, expected in (("last", epoch), ("best", best)):
            saved = load_checkpoint(tmp_path / name)
            assert saved["progress"]["epoch"] == expected
            assert saved["model"]["w"] == -1.5 * expected
            assert saved["note"] == {"a": [1]}


def test_a_section_of_the_run_is_no_section_of_the_users(tmp_path):
    log = Log()
    trainer = make_scripted(Checkpoint(tmp_path / "last", sections={"progress": {}}), log)
    message = "must be none of architecture, model, optimizer, .* got progress"
    with pytest.raises(ValueError, match=message):
        trainer.fit(BATCHES, 1)
    assert trainer.step == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("seconds", "saved"), [(0, [1, 2, 3]), (2, [0, 2, 2]), (1e6, [0, 0, 0])])
def test_checkpoints_within_an_epoch(tmp_path, monkeypatch, seconds, saved):
    monkeypatch.setattr(time, "monotonic", itertools.count().__next__)  # a second a look
    steps = []

    class Look(Callback):
        def on_step_end(self, trainer):
            steps.append(load_checkpoint(tmp_path / "last")["progress"]["step"])

    make_scripted(Checkpoint(tmp_path / "last", every_seconds=seconds), Look()).fit(BATCHES, 1)
    assert steps == saved


def test_history_files(tmp_path):
    paths = [tmp_path / "history.csv", tmp_path / "history.json"]
    files = [HistoryFile(path) for path in paths]
    make_scripted(*files, losses=[1] * 3 + [0.5] * 3, validation_losses=[2]).fit(
        BATCHES, 1, VALIDATION[:1]
    )
    trainer = make_scripted(*files, losses=[1] * 3 + [0.5] * 3)
    trainer.fit(BATCHES, 2)
    table = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    rows = json.loads(paths[1].read_text())
    assert len(table) == len(rows) == 2
    for line, row, expected in zip(table, rows, trainer.history):
        assert row == {
            **expected,
            "training_bits": expected["training_loss"] / math.log(2),
            "validation_bits": None,
        }
        assert line == {key: "" if value is None else str(value) for key, value in row.items()}


@pytest.mark.parametrize("name", ["history.csv", "history.json"])
def test_history_files_have_what_callbacks_add(name, tmp_path):
    class Accuracy(Callback):
        def on_epoch_end(self, trainer):
            if trainer.epoch == 2:
                trainer.history[-1]["accuracy"] = 0.75

    path = tmp_path / name
    run = [Accuracy(), HistoryFile(path), Checkpoint(tmp_path / "run")]
    make_scripted(*run).fit(BATCHES, 3)
    resumed = make_scripted(*run)
    resumed.load_state_dict(load_checkpoint(tmp_path / "run"))
    resumed.fit(BATCHES, 3)
    text = path.read_text()
    rows = json.loads(text) if path.suffix == ".json" else csv.DictReader(io.StringIO(text))
    assert [str(row.get("accuracy", "")) for row in rows] == ["", "0.75", ""]


def test_targets_may_be_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    model = SequenceClassifier(3, 4, 2, embedding_size=2, seed=0)
    targets = torch.tensor([0, 1])
    assert model.count(targets) == 2
    trainer = fit(model, [([[0, 1], [2]], targets), (np.eye(2, dtype=int), targets)], 1)
    assert evaluate(model, [([[0, 1], [2]], targets)]) > 0
    assert trainer.epoch == 1


def test_the_learning_curve_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "curve.png"
    trainer = make_scripted(LearningCurve(path))
    trainer.fit(BATCHES, 1, VALIDATION)
    first = path.read_bytes()
    trainer.fit(BATCHES, 3)
    make_scripted(LearningCurve(tmp_path / "training.png")).fit(BATCHES, 1)
    assert first[:4] == path.read_bytes()[:4] == b"\x89PNG"
    assert first != path.read_bytes()


def test_a_learning_curve_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"python -m pip install 'fastrnn\[plot\]'"):
        LearningCurve(tmp_path / "curve.png")


def test_the_report_is_a_line_an_epoch(capsys):
    trainer = make_scripted(EpochReport("char"), losses=[math.log(4)] * 6)
    trainer.fit(BATCHES, 1, VALIDATION)
    trainer.fit(BATCHES, 2)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1/1: training 2.000 bits/char, validation 1.443 bits/char, ")
    assert second.startswith("epoch 2/2: training 2.000 bits/char, ")
    assert all(line.endswith(" chars/s") for line in (first, second))


def test_a_loss_of_no_unit_is_shown_as_it_is(capsys, tmp_path):
    trainer = make_scripted(EpochReport(), losses=[0.00012] * 3)
    trainer.fit(BATCHES, 1, VALIDATION)
    line = capsys.readouterr().out
    assert line.startswith("epoch 1/1: training loss 0.00012, validation loss 1, ")
    assert line.endswith(" targets/s\n")


@pytest.mark.parametrize(("unit", "label", "height"), [(None, "loss", 3), ("char", "bits/char", 2)])
def test_the_curve_of_a_loss_of_no_unit_is_that_loss(unit, label, height, monkeypatch, tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    monkeypatch.setattr(figure, "savefig", lambda self, *_, **__: drawn.append(self.axes[0]))
    nats = height if unit is None else height * math.log(2)
    make_scripted(LearningCurve(tmp_path / "curve.png", unit), losses=[nats] * 3).fit(BATCHES, 1)
    (axes,) = drawn
    assert axes.get_ylabel() == label
    assert axes.lines[0].get_ydata() == pytest.approx([height])


def test_the_report_of_a_resumed_epoch_has_the_speed_of_its_rest(monkeypatch, capsys):
    monkeypatch.setattr(time, "perf_counter", itertools.count(step=0.01).__next__)
    trainer = make_scripted(EpochReport("char"))
    trainer.position, trainer.count = 1, 2
    trainer.fit(BATCHES, 1)
    assert capsys.readouterr().out.endswith(", 67 chars/s\n")  # 4 in six looks at the clock


def test_seconds_are_those_of_all_steps(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)
    monkeypatch.setattr(time, "process_time", itertools.count(step=2).__next__)
    trainer = make_scripted()
    trainer.fit(BATCHES, 2)
    assert (trainer.seconds, trainer.processor_seconds) == (6, 12)


class Notebook(io.StringIO):
    """As a notebook's kernel has for standard error: no terminal, but watched."""

    __module__ = "ipykernel.iostream"


@pytest.mark.parametrize("kind", ["terminal", "notebook", "file"])
def test_the_progress_bar_is_for_those_who_watch(monkeypatch, kind):
    screen = Notebook() if kind == "notebook" else io.StringIO()
    screen.isatty = lambda: kind == "terminal"
    watched = kind != "file"
    monkeypatch.setattr(sys, "stderr", screen)

    class Slow(Callback):
        def on_step_end(self, trainer):
            if watched:
                bar._bar.last_print_t -= 1  # as if a second had passed

    bar = ProgressBar("char")
    trainer = make_scripted(Slow(), bar, losses=[math.log(2)] * 6)
    trainer.fit(BATCHES, 2)
    shown = screen.getvalue()
    if watched:
        assert "epoch 2/2" in shown
        assert "loss 0.693 = 1.000 bits/char" in shown
        assert "/6 [" in shown
        assert shown.endswith("\r")  # the line is free again
    else:
        assert shown == ""


def test_the_progress_bar_counts_the_batches_of_an_epoch(monkeypatch):
    class Drawn(NamedTuple):
        """Two fields, so of length 2, whatever an epoch has."""

        batches: list
        seed: int

        def epoch(self, number):
            return self.batches

    class Totals(Callback):
        def on_step_end(self, trainer):
            places.append((bar._bar.n, bar._bar.total))

    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    bar, places = ProgressBar(), []
    trainer = make_scripted(bar, Totals(), losses=[1] * 9)
    trainer.fit(Drawn(BATCHES, 0), 2)
    assert places == [(k, 6) for k in range(1, 7)]
    trainer.fit(Drawn(BATCHES, 0), 3)  # goes on
    assert places[6:] == [(k, 9) for k in range(7, 10)]


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        (0.2, TypeError, "validation must be batches, pairs of inputs and targets, got float"),
        (
            ([1, 2, 3], [0, 1, 1]),
            TypeError,
            "must be a pair .* got list of 3; fastrnn.data.Batches",
        ),
        ([], ValueError, "there is nothing to validate on"),
    ],
)
def test_validation_is_looked_at_before_the_first_step(validation, error, message):
    trainer = make_scripted()
    with pytest.raises(error, match=message):
        trainer.fit(BATCHES, 1, validation)
    assert trainer.step == 0


@pytest.mark.parametrize("kept", ["inputs", "targets"])
@pytest.mark.parametrize(
    ("model", "examples"),
    [
        (LanguageModel(5, 3, seed=0), np.zeros((4, 6), np.int64)),
        (SequenceGenerator(5, 3, seed=0), np.zeros((4, 6, 1), np.int64)),
    ],
)
def test_arrays_that_would_be_read_transposed_are_refused(model, examples, kept):
    lists, arrays = Batches(list(examples), list(examples), 2), Batches(examples, examples, 2)
    setattr(arrays, kept, getattr(lists, kept))
    before = model.parameters.flat_values.copy()
    message = "of Batches must be a list of sequences .* time first, got an array"
    for action in (
        lambda: fit(model, arrays, 1),
        lambda: fit(model, lists, 1, validation=arrays),
        lambda: evaluate(model, arrays),
    ):
        with pytest.raises(ValueError, match=message):
            action()
    np.testing.assert_array_equal(model.parameters.flat_values, before)
    fit(model, lists, 1, validation=lists)


@pytest.mark.parametrize(
    ("name", "value"), [("model", Scripted()), ("optimizer", SGD(Scripted().parameters, 0.5))]
)
def test_a_model_and_an_optimizer_that_were_set_later_fit_each_other(name, value):
    trainer = make_scripted()
    setattr(trainer, name, value)
    with pytest.raises(ValueError, match="optimizer must be of model"):
        trainer.fit(BATCHES, 1)
    assert trainer.step == 0


@pytest.mark.parametrize("last", [np.zeros((3, 2), int), Padded(np.zeros((3, 2), int), [3, 1])])
def test_a_batch_of_fewer_sequences_than_the_one_it_goes_on_from_is_refused(last):
    batches = [(np.zeros((3, 4), int),) * 2, (last,) * 2]
    message = "ids must be of 4 sequences, .* got 2; sequences that stand alone are Padded"
    for action in (fit, lambda model, batches, epochs: evaluate(model, batches)):
        with pytest.raises(ValueError, match=message):
            action(LanguageModel(5, 3, seed=0), batches, 1)


def test_other_models_have_the_examples_first_in_an_array():
    model = SequenceClassifier(5, 3, 2, seed=0)
    fit(model, Batches(np.zeros((4, 6), np.int64), np.zeros(4, np.int64), 2), 1)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda: make_scripted(clip=0), ValueError, "clip must be a positive number"),
        (lambda: make_scripted(clip="5"), TypeError, "clip must be a positive number"),
        (lambda: make_scripted().fit(BATCHES, 0), ValueError, "epochs must be a positive integer"),
        (lambda: make_scripted().fit(BATCHES, 1.5), TypeError, "epochs must be a positive integer"),
        (lambda: evaluate(Scripted(), []), ValueError, "there is nothing to evaluate"),
        (lambda: make_scripted().fit([], 1), ValueError, "there is nothing to train on"),
        (lambda: make_scripted().fit(iter(BATCHES), 1), TypeError, "batches must be a sequence"),
        (lambda: make_scripted().fit(None, 1), TypeError, "batches must be .* got NoneType"),
        (
            lambda: make_scripted().fit(BATCHES, 2, iter(VALIDATION)),
            TypeError,
            "validation must be read after every epoch, got list_iterator, read once",
        ),
        (
            lambda: fit(Scripted(), BATCHES, 1, optimizer="adan"),
            ValueError,
            "optimizer must be one of",
        ),
        (
            lambda: fit(Scripted(), BATCHES, 1, optimizer=SGD(Scripted().parameters)),
            TypeError,
            "optimizer must be a name, got SGD; a fastrnn.Trainer takes one",
        ),
        (lambda: fit(Scripted(), {"x": 1}, 1), TypeError, r"\(inputs, targets\), got dict$"),
        (
            lambda: fit(Scripted(), BATCHES, 1, validation={"x": 1}),
            TypeError,
            "validation must be batches, pairs of inputs and targets, got dict",
        ),
        (lambda: evaluate(Scripted(), {"x": 1}), TypeError, "batches must be pairs .*, got dict"),
        (lambda: fit(Scripted(), iter(BATCHES), 1), TypeError, r"; list\(batches\) is one"),
        (lambda: fit(Scripted(), BATCHES, 1, progress=1), TypeError, "progress must be True or"),
        (lambda: ReduceOnPlateau(1), ValueError, r"factor must be in \(0, 1\), got 1.0"),
        (lambda: ReduceOnPlateau(0), ValueError, "factor must be a positive number"),
        (lambda: ReduceOnPlateau(patience=0), ValueError, "patience must be a positive integer"),
        (lambda: EarlyStopping(0), ValueError, "patience must be a positive integer"),
        (
            lambda: fit(LSTM(2, 3), BATCHES, 1),
            TypeError,
            r"model must be a fastrnn.models.Model, got LSTM",
        ),
        (lambda: fit(1, BATCHES, 1), TypeError, "model must be a fastrnn.models.Model, got int"),
        (lambda: Trainer(Scripted(), SGD), TypeError, "optimizer must be .*Optimizer, got"),
        (
            lambda: Trainer(Scripted(), SGD(Scripted().parameters)),
            ValueError,
            "optimizer must be of model.parameters, got one of another model's",
        ),
        (
            lambda: fit(Scripted(), BATCHES, 1, callbacks=EarlyStopping()),
            TypeError,
            "callbacks must be an iterable of Callback, got EarlyStopping; put it in a list",
        ),
        (
            lambda: make_scripted(EarlyStopping),
            TypeError,
            "callbacks must be instances of Callback, got <class",
        ),
        (
            lambda: make_scripted().fit(([[1], [2], [3]], [0, 1, 0]), 1),
            TypeError,
            r"a batch must be a pair \(inputs, targets\), got list of 3",
        ),
        (
            lambda: make_scripted().fit(BATCHES, 1, ([[1], [2], [3]], [0, 1, 0])),
            TypeError,
            r"a batch must be a pair \(inputs, targets\), got list of 3",
        ),
        (
            lambda: evaluate(Scripted(), (1, 2)),
            TypeError,
            r"a batch must be a pair \(inputs, targets\), got int",
        ),
        (lambda: evaluate(None, BATCHES), TypeError, "model must be a fastrnn.models.Model"),
        (lambda: Checkpoint("x", every_seconds=-1), ValueError, "every_seconds must be"),
        (lambda: Checkpoint("x", sections=[1]), TypeError, "sections must be a mapping from str"),
        (lambda: Checkpoint(1), TypeError, "^path must be a str or a Path, got int 1"),
        (lambda: Checkpoint("x", 1), TypeError, "best_path must be a str or a Path, got int 1"),
        (lambda: HistoryFile(1), TypeError, "path must be a str or a Path, got int 1"),
        (
            lambda: fit(Scripted(), BATCHES, 1, resume=1, progress=False),
            TypeError,
            "resume must be a str or a Path, got int 1",
        ),
    ],
)
def test_wrong_arguments_are_refused(action, error, message):
    with pytest.raises(error, match=message):
        action()


@pytest.mark.parametrize(("clip", "error"), [(0, ValueError), (-1.0, ValueError), ("1", TypeError)])
def test_a_clip_that_is_set_later_is_judged_at_once(clip, error):
    trainer = make_trainer(clip=2.0)
    with pytest.raises(error, match="clip must be a positive number, got"):
        trainer.clip = clip
    assert trainer.clip == 2.0
    trainer.clip = None
    trainer.fit(Windows(IDS, 2, 5), 1)
