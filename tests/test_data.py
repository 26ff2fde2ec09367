"""Text to ids to windows."""

import sys

import numpy as np
import pytest

from fastrnn.data import CharVocabulary, Windows, python_documentation, read_text, split


def test_characters_are_numbered_in_the_order_of_their_code_points():
    vocabulary = CharVocabulary("hello, wörld 😀\n")
    assert vocabulary.characters == "\n ,dehlorwö😀"
    assert len(vocabulary) == 12
    assert vocabulary.encode("dö😀\n").tolist() == [3, 10, 11, 0]


@pytest.mark.parametrize(
    "text", ["a", "hello", "\r\n\t \0", "日本語のテキスト", "😀é\ud800", "zyx" * 1000]
)
def test_decoding_undoes_encoding(text):
    vocabulary = CharVocabulary(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64
    assert ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text


def test_an_empty_text_has_no_ids():
    vocabulary = CharVocabulary("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("abc", '"c"'),
        ("a\nb", r'"\n"'),
        ("zazbé", '"z", "é"'),
        ("ab😀", '"😀"'),
        ("0123456789xyz", '"9" and 3 more'),
    ],
)
def test_unknown_characters_are_listed(text, listed):
    with pytest.raises(ValueError, match="characters outside the vocabulary of 2: ") as error:
        CharVocabulary("ab").encode(text)
    assert str(error.value).endswith(listed)


def test_vocabularies_are_equal_when_their_characters_are():
    assert CharVocabulary("abba") == CharVocabulary("bab")
    assert hash(CharVocabulary("abba")) == hash(CharVocabulary("bab"))
    assert CharVocabulary("ab") != CharVocabulary("abc")


@pytest.mark.parametrize("ids", [[2], [-1], [0, 5]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match=r"ids must be in 0\.\.1, got"):
        CharVocabulary("ab").decode(ids)


def test_a_vocabulary_needs_text():
    with pytest.raises(ValueError, match="text must not be empty"):
        CharVocabulary("")
    with pytest.raises(TypeError, match="text must be a str, got bytes"):
        CharVocabulary(b"abc")
    with pytest.raises(TypeError, match="text must be a str, got list"):
        CharVocabulary("abc").encode(["a"])


def test_read_text_drops_the_mark_and_unifies_line_ends(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntw\xc3\xb6\rthree\n")
    assert read_text(path) == "one\ntwö\nthree\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file "),
        (b"", " is empty"),
        (b"\xef\xbb\xbf", " is empty"),
        (b"abc\xff", r" is not UTF-8 text \(byte 3 is 0xff\)"),
        (b"\xff\xfea\0b\0", r" is not UTF-8 text \(byte 0 is 0xff\)"),
        ("café".encode("latin-1"), r" is not UTF-8 text \(byte 3 is 0xe9\)"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, message):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_text(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="cannot read "):
        read_text(tmp_path)


def test_python_carries_its_documentation():
    text = python_documentation()
    assert len(text) > 300_000
    assert "lambda" in text


def test_a_python_without_documentation_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match="give a text file instead"):
        python_documentation()


def test_streams_lie_side_by_side_and_go_on_from_window_to_window():
    windows = Windows(np.arange(23), batch_size=2, seq_length=3)
    assert len(windows) == 3
    inputs = np.concatenate([x for x, _ in windows])
    targets = np.concatenate([y for _, y in windows])
    assert inputs[:, 0].tolist() == [*range(9)]
    assert inputs[:, 1].tolist() == [*range(11, 20)]
    assert np.array_equal(targets, inputs + 1)
    assert all(x.shape == y.shape == (3, 2) for x, y in windows)


@pytest.mark.parametrize("n", [2, 3, 10, 11, 12])
def test_scoring_makes_every_prediction_once_and_in_order(n):
    windows = Windows(np.arange(n), 1, 5, keep_rest=True)
    assert np.concatenate([x for x, _ in windows]).ravel().tolist() == [*range(n - 1)]
    assert np.concatenate([y for _, y in windows]).ravel().tolist() == [*range(1, n)]


def test_windows_end_where_a_sequence_does():
    windows = Windows(np.arange(11), 2, 5)
    assert len(windows) == 1
    assert windows[-1][1][-1].tolist() == [5, 10]
    with pytest.raises(IndexError):
        windows[1]


@pytest.mark.parametrize(
    ("size", "options", "needed"),
    [
        (10, {"batch_size": 2, "seq_length": 5}, 11),
        (1, {"batch_size": 1, "seq_length": 5, "keep_rest": True}, 2),
        (0, {"batch_size": 1, "seq_length": 1}, 2),
        (100, {"batch_size": 10**30, "seq_length": 10**30}, 10**60 + 1),
    ],
)
def test_too_short_a_text_is_refused(size, options, needed):
    with pytest.raises(
        ValueError, match=f"the text is too short: .* at least {needed} symbols, got {size}"
    ):
        Windows(np.arange(size), **options)


@pytest.mark.parametrize("name", ["batch_size", "seq_length"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_impossible_sizes_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} must be a positive integer, got"):
        Windows(np.arange(100), **({"batch_size": 2, "seq_length": 5} | {name: value}))


@pytest.mark.parametrize(
    ("n", "fraction", "cut"),
    [(1_115_394, 0.1, 1_003_854), (10, 0.0, 10), (10, 0.25, 7), (3, 0.5, 1)],
)
def test_the_last_part_validates(n, fraction, cut):
    training, validation = split(np.arange(n), fraction)
    assert len(training) == cut
    assert np.array_equal(np.concatenate([training, validation]), np.arange(n))


@pytest.mark.parametrize(("fraction", "left"), [(1.0, "0 to train"), (0.99, "0 to"), (0.1, "9 to")])
def test_both_parts_must_be_of_use(fraction, left):
    with pytest.raises(
        ValueError, match=f"too short for validation_fraction {fraction:g}: .* {left}"
    ):
        split(np.arange(10), fraction)


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(ValueError, match="validation_fraction must be a probability"):
        split(np.arange(10), fraction)
