"""Reading texts, and cutting them into tokens."""

import sys

import pytest

from fastrnn.data import RegexTokenizer, characters, python_documentation, read_text, words


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


@pytest.mark.parametrize("path", [None, 3])
def test_a_path_is_a_str_or_a_path(path):
    with pytest.raises(TypeError, match=f"^path must be a str or a Path, got .* {path}$"):
        read_text(path)


def test_python_carries_its_documentation():
    text = python_documentation()
    assert len(text) > 300_000
    assert "lambda" in text


def test_a_python_without_documentation_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match="give a text file instead"):
        python_documentation()


def test_characters_and_words():
    assert characters("a é") == ["a", " ", "é"]
    assert words(" two\n  words\t") == ["two", "words"]
    assert characters("") == words(" ") == []


def test_a_regular_expression_cuts_out_its_matches():
    tokenizer = RegexTokenizer(r"\w+'?|[^\w\s]", lowercase=True)
    assert tokenizer("J'aime l'Été, non ?") == ["j'", "aime", "l'", "été", ",", "non", "?"]
    assert RegexTokenizer(r"[^\s:,]+|[:,]")("Man: dark, RED") == ["Man", ":", "dark", ",", "RED"]
    assert tokenizer("") == []


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "must be a regular expression"), (r"(\w)+", "must have no capturing groups")],
)
def test_patterns_of_no_use_are_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        RegexTokenizer(pattern)


@pytest.mark.parametrize("pattern", [None, b"a"])
def test_a_pattern_is_a_str(pattern):
    with pytest.raises(TypeError, match=f"pattern must be a str, got {type(pattern).__name__}"):
        RegexTokenizer(pattern)


@pytest.mark.parametrize("tokenizer", [characters, words, RegexTokenizer(r"\w+")])
def test_what_is_no_text_is_not_cut(tokenizer):
    for text, found in ((None, "NoneType"), (["a"], "list"), (b"a", "bytes")):
        with pytest.raises(TypeError, match=f"text must be a str, got {found}"):
            tokenizer(text)
