"""Files that can be trusted: whole, checked, and enough to go on to the same bits."""

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import optim
from fastrnn.checkpoint import first_line
from fastrnn.data import Batches, CharVocabulary, Windows
from fastrnn.models import LanguageModel, SequenceClassifier, load
from fastrnn.training import (
    Callback,
    Checkpoint,
    CheckpointError,
    Trainer,
    fit,
    load_checkpoint,
    load_language_model,
    save_checkpoint,
)

TEXT = "to be or not to be, that is the question. " * 4
VOCABULARY = CharVocabulary(TEXT)
SECTIONS = {
    "one": {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "pi": 3.141592653589793,
        "n": 2**100,
    },
    "three": {"y.z": np.array([1.5]), "empty": np.zeros((0, 2)), "list": [{"a": None}, "\u2028é"]},
}


def make_model(**options):
    return LanguageModel(len(VOCABULARY), 4, **{"embedding_size": 3, "seed": 0, **options})


def sections_of(model):
    return {**model.sections(), "vocabulary": VOCABULARY.state()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same(found[name], value)
        elif isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            assert found[name].shape == value.shape
            assert found[name].tobytes() == value.tobytes()
        else:
            assert type(found[name]) is type(value)
            assert found[name] == value


def test_what_was_saved_is_loaded(tmp_path):
    path = tmp_path / "file"
    save_checkpoint(path, SECTIONS)
    assert_same(load_checkpoint(path), SECTIONS)
    assert os.listdir(tmp_path) == ["file"]
    # Any reader of safetensors finds the arrays.
    assert safetensors.numpy.load_file(path).keys() == {"one.x", "three.y.z", "three.empty"}


@pytest.mark.parametrize("name", ["m" * 255, "\N{MUSICAL SYMBOL G CLEF}" * 63])
def test_a_name_may_be_as_long_as_a_file_system_allows(tmp_path, monkeypatch, name):
    save_checkpoint(tmp_path / name, SECTIONS)
    monkeypatch.setattr("fastrnn._files._open_locked", lambda path: None)  # another writes there
    save_checkpoint(tmp_path / name, SECTIONS)
    assert os.listdir(tmp_path) == [name]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/file")
    save_checkpoint(link, SECTIONS)
    assert link.is_symlink()
    assert_same(load_checkpoint(tmp_path / "folder" / "file"), SECTIONS)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_lies_at_the_place_of_the_temporary_file_is_left_alone(tmp_path, kind):
    victim, temporary = tmp_path / "victim", tmp_path / ".file.tmp"
    victim.write_text("mine")
    if kind == "link":
        temporary.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(temporary)
    else:
        temporary.mkdir()
    before = temporary.lstat()
    save_checkpoint(tmp_path / "file", SECTIONS)
    assert_same(load_checkpoint(tmp_path / "file"), SECTIONS)
    assert not (tmp_path / "file").is_symlink()
    assert victim.read_text() == "mine"
    assert os.path.samestat(temporary.lstat(), before)


def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    save_checkpoint(path, SECTIONS)
    path.chmod(0o640)
    save_checkpoint(path, SECTIONS)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("old", "new"), [(b'"shape":[2,3]', b'"shape":[3,2]'), (b"F32", b"I32")])
def test_another_shape_or_type_of_the_same_bytes_is_damage(tmp_path, old, new):
    path = tmp_path / "file"
    save_checkpoint(path, {"a": {"x": np.ones((2, 3), np.float32)}})
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    check_refused(path, "its checksum is another")


def test_the_first_line_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError("name")) == "name"
    assert first_line(KeyError()) == "KeyError"


def test_arrays_in_any_layout_are_saved(tmp_path):
    array = np.arange(24.0).reshape(4, 6)
    save_checkpoint(tmp_path / "file", {"a": {"x": array[::2, ::-1], "y": array.T}})
    loaded = load_checkpoint(tmp_path / "file")["a"]
    assert np.array_equal(loaded["x"], array[::2, ::-1])
    assert np.array_equal(loaded["y"], array.T)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({2: "b", 10: "k", 1: "a"}, {"1": "a", "2": "b", "10": "k"}),  # ids before their digits
        ({1: "a", "b": 2}, {"1": "a", "b": 2}),
        (np.array(5.0), np.array(5.0)),
        (np.arange(3, dtype=">f4"), np.arange(3, dtype=np.float32)),
    ],
    ids=["whole numbers as keys", "mixed keys", "no axis", "byte order"],
)
def test_what_a_file_has_in_another_form_is_no_damage(tmp_path, value, found):
    save_checkpoint(tmp_path / "file", {"a": {"x": value}})
    assert_same(load_checkpoint(tmp_path / "file"), {"a": {"x": found}})


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"a.b": {"x": np.zeros(2)}}, ValueError, "no dot .* got a.b"),
        ({"sha256": {"x": 1}}, ValueError, "got sha256"),
        ({"format_version": {"x": 1}}, ValueError, "got format_version"),
        ([("a", {})], TypeError, "sections must be a mapping, got list"),
        ({"a": None}, TypeError, "a must be a mapping of names, got NoneType"),
        ({"a": {"x": np.array(["b"])}}, TypeError, "a.x must be real, .* got dtype <U1"),
        ({"a": {"x": np.zeros(2, complex)}}, TypeError, "a.x must be real, .* complex128"),
        ({"a": {"x": np.int64(1)}}, TypeError, "a must hold .* JSON .* int64"),
    ],
)
def test_what_would_not_be_found_again_is_refused(tmp_path, sections, error, message):
    save_checkpoint(tmp_path / "file", SECTIONS)
    with pytest.raises(error, match=message):
        save_checkpoint(tmp_path / "file", sections)
    assert_same(load_checkpoint(tmp_path / "file"), SECTIONS)


def test_the_same_contents_are_the_same_bytes(tmp_path):
    paths = [tmp_path / str(i) for i in range(5)]
    for path in paths:
        save_checkpoint(path, SECTIONS)
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failed_save_leaves_the_file_before(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    save_checkpoint(path, SECTIONS)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"one": {"x": np.zeros(100)}})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_saves_to_one_path_at_the_same_time_are_each_whole(tmp_path, monkeypatch):
    path, fsync = tmp_path / "file", os.fsync
    first, second = SECTIONS, {"one": {"x": np.zeros(100)}}

    def meanwhile(_):
        monkeypatch.setattr(os, "fsync", fsync)
        save_checkpoint(path, second)
        assert_same(load_checkpoint(path), second)

    monkeypatch.setattr(os, "fsync", meanwhile)
    save_checkpoint(path, first)
    assert_same(load_checkpoint(path), first)
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_save_names_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "missing" / "file"  # what is written first has another name
    with pytest.raises(OSError, match="No such file") as error:
        save_checkpoint(path, SECTIONS)
    assert error.value.filename == str(path)


def test_only_files_are_replaced(tmp_path):
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "directory", os.devnull):
        with pytest.raises(OSError, match="is not a regular file"):
            save_checkpoint(path, SECTIONS)
    with pytest.raises(FileNotFoundError):
        save_checkpoint(tmp_path / "absent" / "file", SECTIONS)


def check_refused(path, message="."):
    for read in (load_checkpoint, load_language_model):
        with pytest.raises(CheckpointError, match=message) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, this is a text and nothing else",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}",
        struct.pack("<Q", 4) + b"{}}}",
        struct.pack("<Q", 2) + b"\xff\xfe",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",  # a pickle
    ],
)
def test_what_is_no_safetensors_file_is_refused(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    check_refused(path, "is damaged or no safetensors file")


def test_there_must_be_a_file(tmp_path):
    # Python 3.14 has no such error where it asks whether a file exists.
    check_refused(tmp_path / ("m" * 300), "cannot read .* too long|there is no file")
    check_refused(tmp_path / "absent", "there is no file")
    check_refused(tmp_path, "is not a file")


@pytest.mark.parametrize("read", [load_checkpoint, load_language_model, load])
def test_a_path_is_a_str_or_a_path(read):
    with pytest.raises(TypeError, match=r"^path must be a str or a Path, got NoneType None$"):
        read(None)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"fastrnn": "no JSON"},
        {"fastrnn": "[1]"},
        {"fastrnn": "{}"},
        {"fastrnn": "[" * 100_000},
        {"fastrnn": '{"format_version": 1, "sha256": "", "w": 5}'},
        {"fastrnn": '{"format_version": 1, "sha256": ""}'},
    ],
)
@pytest.mark.parametrize("name", ["w", "w.x"])
def test_foreign_safetensors_files_are_refused(tmp_path, metadata, name):
    path = tmp_path / "file"
    safetensors.numpy.save_file({name: np.zeros(3)}, path, metadata)
    check_refused(path, "was not written by fastrnn")


def test_other_formats_are_refused(tmp_path):
    path = tmp_path / "file"
    document = {"format_version": 2, "sha256": "", "w": {}}
    safetensors.numpy.save_file({"w.x": np.zeros(3)}, path, {"fastrnn": json.dumps(document)})
    check_refused(path, "has format version 2, this fastrnn reads 1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good file, what is in it, and a place to write a bad one."""
    path = tmp_path_factory.mktemp("damage") / "file"
    save_checkpoint(path, sections_of(make_model()))
    return path.read_bytes(), load_checkpoint(path), path


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_is_found_or_without_effect(whole, data):
    good, contents, path = whole
    place = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:place]
    else:
        bad = bytearray(good)
        bad[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bad)
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
    else:  # such as another kind of white space in the header
        assert len(bad) == len(good)
        assert_same(loaded, contents)
        return
    assert str(path) in message
    assert "\n" not in message


def test_a_model_comes_back(tmp_path):
    model = make_model(num_layers=2, cell="gru", dropout=0.5)
    save_checkpoint(tmp_path / "file", sections_of(model))
    loaded, vocabulary = load_language_model(tmp_path / "file")
    assert vocabulary == VOCABULARY
    assert loaded.config == model.config
    ids = VOCABULARY.encode("not")
    assert np.array_equal(loaded(ids)[0], model(ids)[0])


def change(section, name, value):
    def apply(sections):
        sections[section] = {**sections[section], name: value}

    return apply


def configure(name, value):
    def apply(sections):
        sections["architecture"]["config"] = {**sections["architecture"]["config"], name: value}

    return apply


def remove(section, name=None):
    def apply(sections):
        del (sections if name is None else sections[section])[section if name is None else name]

    return apply


V = len(VOCABULARY)


@pytest.mark.parametrize(
    "forge",
    [
        remove("model"),
        remove("architecture"),
        remove("architecture", "class"),
        change("architecture", "class", "Module"),
        change("architecture", "class", ["LanguageModel"]),
        remove("vocabulary"),
        remove("model", "output.bias"),
        change("architecture", "config", {}),
        change("model", "output.bias", np.zeros((V, 1), np.float32)),
        change("model", "output.bias", np.zeros(V - 1, np.float32)),
        change("model", "output.bias", "text"),
        change("model", "other", np.zeros(3, np.float32)),
        change("model", "output.bias", np.full(V, np.nan, np.float32)),
        configure("hidden_size", 10**12),
        configure("num_layers", 10**12),
        configure("num_layers", True),
        configure("embedding_size", 10**12),
        configure("hidden_size", "4"),
        configure("hidden_size", 4.0),
        configure("cell", "gru"),
        configure("cell", ["lstm"]),
        configure("dtype", "float16"),
        configure("dropout", 7),
        configure("extra", 1),
        change("vocabulary", "characters", TEXT),
        change("vocabulary", "characters", VOCABULARY.characters[1:]),
        change("vocabulary", "characters", ""),
        change("vocabulary", "characters", 5),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, forge):
    sections = sections_of(make_model())
    forge(sections)
    save_checkpoint(tmp_path / "file", sections)
    with pytest.raises(
        CheckpointError, match=r"holds no usable (model|vocabulary)|not its model's|not finite"
    ) as error:
        load_language_model(tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)
    assert "\n" not in str(error.value)


class KilledError(Exception):
    """Stands for the end of a process after a given step."""


class KillAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer):
        if trainer.step == self.step:
            raise KilledError


def make_run(path, cell, optimizer, *callbacks, resume=False, every_seconds=30):
    model = make_model(num_layers=2, cell=cell, dropout=0.3, seed=1 + resume)
    trainer = Trainer(
        model,
        getattr(optim, optimizer)(model.parameters, 0.01),
        clip=1.0,
        callbacks=[Checkpoint(path, every_seconds=every_seconds), *callbacks],
    )
    if resume:
        trainer.load_state_dict(load_checkpoint(path))
    ids = VOCABULARY.encode(TEXT)
    return trainer, Windows(ids[:100], 3, 5), Windows(ids[100:], 1, 20, keep_rest=True)


@pytest.mark.parametrize(
    ("cell", "optimizer"),
    [("lstm", name) for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]
    + [("rnn", "Adam"), ("gru", "Adam")],
)
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, cell, optimizer):
    trainer, windows, validation = make_run(tmp_path / "whole", cell, optimizer)
    trainer.fit(windows, 2, validation)
    expected = (tmp_path / "whole").read_bytes()
    for step in (2, len(windows), len(windows) + 1):
        path = tmp_path / str(step)
        killed, *data = make_run(path, cell, optimizer, KillAfter(step), every_seconds=0)
        with pytest.raises(KilledError):
            killed.fit(data[0], 2, data[1])
        assert load_checkpoint(path)["progress"]["step"] == step
        resumed, *data = make_run(path, cell, optimizer, resume=True)
        resumed.fit(data[0], 2, data[1])
        assert resumed.history == trainer.history
        assert path.read_bytes() == expected


@pytest.mark.parametrize(
    "forge",
    [
        remove("progress"),
        remove("optimizer"),
        remove("generators", "dropout"),
        remove("state", "0"),
        change("progress", "epoch", -1),
        change("progress", "position", 1.5),
        change("progress", "history", [{"epoch": 1}]),
        change("progress", "history", ["row"]),
        change("generators", "dropout", {"bit_generator": "MT19937"}),
        change("generators", "dropout", 7),
    ],
)
def test_a_run_that_does_not_fit_is_refused(tmp_path, forge):
    path = tmp_path / "file"
    killed, windows, _ = make_run(path, "lstm", "Adam", KillAfter(2), every_seconds=0)
    with pytest.raises(KilledError):
        killed.fit(windows, 1)
    sections = load_checkpoint(path)
    forge(sections)
    trainer, *_ = make_run(path, "lstm", "Adam")
    before = trainer.state_dict()
    with pytest.raises((KeyError, ValueError, TypeError)):
        trainer.load_state_dict(sections)
    assert_same(trainer.state_dict(), before)


def test_another_optimizers_state_is_refused(tmp_path):
    path = tmp_path / "file"
    trainer, windows, _ = make_run(path, "lstm", "Adam")
    trainer.fit(windows, 1)
    with pytest.raises(ValueError, match="state must be of SGD, got Adam"):
        make_run(path, "lstm", "SGD", resume=True)


def fit_names(path, *callbacks, **options):
    """Train on sequences; the order of the batches changes every epoch."""
    model = make_model(dropout=0.3, seed=1)
    names = [VOCABULARY.encode(TEXT[k : k + 2 + k % 5]) for k in range(0, 60, 3)]
    batches = Batches([ids[:-1] for ids in names], [ids[1:] for ids in names], 4)
    saving = [Checkpoint(path, every_seconds=0), *callbacks]
    return fit(model, batches, 3, callbacks=saving, progress=False, **options)


def test_fit_goes_on_to_the_same_bits(tmp_path):
    path = tmp_path / "file"
    history = fit_names(path).history
    expected = path.read_bytes()
    with pytest.raises(KilledError):
        fit_names(path, KillAfter(7))
    assert load_checkpoint(path)["progress"]["step"] == 7
    assert fit_names(path, resume=path).history == history
    assert path.read_bytes() == expected
    assert fit_names(path, resume=str(path)).step == 15  # nothing is left to do
    assert path.read_bytes() == expected


def test_fit_refuses_to_resume_what_is_no_run_of_its_model(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(CheckpointError, match="there is no file"):
        fit_names(path, resume=path)
    fit_names(path)
    before = path.read_bytes()
    message = r"file holds no run that could be resumed \(state must be of SGD, got Adam\)"
    with pytest.raises(CheckpointError, match=message):
        fit_names(path, resume=path, optimizer="sgd")
    assert path.read_bytes() == before
    make_model().save(path)
    with pytest.raises(CheckpointError, match=r"\(it has no progress: a Checkpoint saves runs"):
        fit_names(path, resume=path)


def labelled(lr=None, batch_size=4, architecture=None, **options):
    """Train on sequences with labels; return the trainer."""
    x = [np.arange(k % 3 + 2) for k in range(16)]
    model = SequenceClassifier(9, 4, 2, **(architecture or {}), seed=0)
    batches = Batches(x, np.arange(16) % 2, batch_size)
    rate = {} if lr is None else {"learning_rate": lr}
    return fit(model, batches, progress=False, **rate, **options)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling": "mean"}, "pooling must be 'last', got 'mean'"),
        ({"options": {"reset_after": False}}, "options must be {}, got"),
        ({"dtype": "float64"}, "dtype must be 'float32', got 'float64'"),
    ],
)
def test_another_network_is_not_resumed(tmp_path, changed, message):
    """Even where its parameters have the same shapes."""
    path = tmp_path / "run"
    labelled(epochs=1, callbacks=[Checkpoint(path)])
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        labelled(epochs=2, architecture=changed, callbacks=[Checkpoint(path)], resume=path)
    assert path.read_bytes() == before


def test_an_interrupted_epoch_goes_on_with_as_many_batches(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KilledError):
        labelled(epochs=1, callbacks=[Checkpoint(path, every_seconds=0), KillAfter(3)])
    for size, found in ((8, 2), (2, 8)):
        with pytest.raises(ValueError, match=f"batches must be 4, .* after 3, got {found}"):
            labelled(epochs=1, batch_size=size, resume=path)
    sections = load_checkpoint(path)
    del sections["progress"]["length"], sections["progress"]["initial_learning_rate"]
    save_checkpoint(path, sections)  # as older versions wrote it
    assert labelled(epochs=1, resume=path).step == 4


def test_another_learning_rate_is_that_of_the_rest(tmp_path):
    path = tmp_path / "run"

    class Lower(Callback):
        def on_epoch_end(self, trainer):
            trainer.optimizer.learning_rate /= 2

    labelled(0.5, epochs=2, callbacks=[Lower(), Checkpoint(path)])
    rates = [row["learning_rate"] for row in labelled(0.5, epochs=3, resume=path).history]
    assert rates == [0.5, 0.25, 0.125]  # the run's own, as a callback has left it
    again = labelled(0.1, epochs=3, callbacks=[Checkpoint(path)], resume=path)
    assert [row["learning_rate"] for row in again.history] == [0.5, 0.25, 0.1]
    assert labelled(0.1, epochs=4, resume=path).history[-1]["learning_rate"] == 0.1


def test_a_refused_resume_changes_nothing(tmp_path):
    path = tmp_path / "run"
    labelled(epochs=1, callbacks=[Checkpoint(path)])
    model = SequenceClassifier(9, 4, 2, seed=0)
    before = model.parameters.flat_values.copy()
    batches = Batches([[1]] * 4, [0, 1] * 2, 4)
    for data, epochs, validation in ((batches, 0, None), ([], 1, None), (batches, 2, 3)):
        with pytest.raises((ValueError, TypeError)):
            fit(model, data, epochs, validation=validation, resume=path)
        np.testing.assert_array_equal(model.parameters.flat_values, before)


def test_a_run_is_not_lost_to_one_that_is_refused_at_its_first_step(tmp_path):
    path = tmp_path / "run"
    labelled(epochs=2, callbacks=[Checkpoint(path)])
    saving = [Checkpoint(path)]
    before = path.read_bytes()
    model = SequenceClassifier(9, 4, 2, seed=0)
    with pytest.raises(TypeError):
        fit(model, Batches([[1]] * 4, [0.5] * 4, 4), 1, callbacks=saving, progress=False)
    assert path.read_bytes() == before
    with pytest.raises(KilledError):
        labelled(epochs=1, callbacks=[*saving, KillAfter(1)])
    assert load_checkpoint(path)["progress"]["step"] == 1


def test_a_model_that_would_not_be_loaded_is_not_saved(tmp_path):
    path = tmp_path / "model"
    model = SequenceClassifier(9, 4, 2, seed=0)
    model.save(path)
    before = path.read_bytes()
    model.parameters.flat_values[0] = np.nan
    with pytest.raises(ValueError, match="parameters must be finite to be saved"):
        model.save(path)
    assert path.read_bytes() == before
