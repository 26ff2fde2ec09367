"""Texts to ids and back."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import CharVocabulary, Vocabulary

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


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
    assert CharVocabulary.from_state(json.loads(json.dumps(vocabulary.state()))) == vocabulary


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


def test_tokens_are_numbered_by_falling_count_then_by_name():
    vocabulary = Vocabulary(["b", "a", "c", "b", "d", "a", "b"])
    assert vocabulary.tokens == (*SPECIALS, "b", "a", "c", "d")
    assert (vocabulary.pad, vocabulary.unk, vocabulary.bos, vocabulary.eos) == (0, 1, 2, 3)
    assert len(vocabulary) == 8
    assert "b" in vocabulary
    assert "z" not in vocabulary


def test_counts_do_as_well_as_tokens():
    tokens = ["b", "a", "c", "b", "d", "a", "b"]
    assert Vocabulary(Counter(tokens)) == Vocabulary(tokens) == Vocabulary(iter(tokens))
    assert hash(Vocabulary(Counter(tokens))) == hash(Vocabulary(tokens))
    assert Vocabulary(tokens) != Vocabulary([*tokens, "e"])


def test_rare_tokens_get_no_id():
    vocabulary = Vocabulary(["b", "a", "c", "b", "a", "b"], min_count=2, specials=("<unk>",))
    assert vocabulary.tokens == ("<unk>", "b", "a")
    assert vocabulary.encode(["c", "a", "zz"]).tolist() == [0, 2, 0]
    assert (vocabulary.pad, vocabulary.unk, vocabulary.bos) == (None, 0, None)


def test_tokens_of_equal_count_are_in_the_order_of_their_code_points():
    assert Vocabulary(["c", "b", "é", "a", "Z"]).tokens == (*SPECIALS, "Z", "a", "b", "c", "é")


def test_a_special_token_in_a_text_is_the_special_one():
    vocabulary = Vocabulary(["a", "<unk>", "<unk>", "b", "<unk>"])
    assert vocabulary.tokens == (*SPECIALS, "a", "b")
    assert vocabulary.encode(["<unk>", "nobody"]).tolist() == [1, 1]


def test_a_special_token_that_was_left_out_is_one_like_others():
    plain = Vocabulary(["<pad>", "a"], specials=())
    assert (plain.pad, plain.decode(plain.encode(["<pad>"]))) == (None, ["<pad>"])
    special = Vocabulary(["a"], specials=("<pad>",))
    assert (plain.tokens, special.tokens) == (("<pad>", "a"),) * 2
    assert plain != special


def test_a_sequence_is_marked_and_the_marks_are_dropped_again():
    vocabulary = Vocabulary(["a", "b"])
    ids = vocabulary.encode(["b", "a", "?"], bos=True, eos=True)
    assert ids.tolist() == [2, 5, 4, 1, 3]
    assert ids.dtype == np.int64
    assert vocabulary.decode([*ids, 0, 0]) == ["b", "a", "<unk>"]
    assert vocabulary.encode([], bos=True).tolist() == [2]
    assert vocabulary.encode([]).dtype == np.int64
    assert vocabulary.decode([]) == []


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1), st.sets(st.sampled_from(SPECIALS)))
def test_decoding_undoes_encoding_of_tokens(tokens, specials):
    specials = sorted(specials)
    vocabulary = Vocabulary(tokens, specials=specials)
    marks = {"<pad>", "<bos>", "<eos>"} & set(specials)
    assert vocabulary.decode(vocabulary.encode(tokens)) == [t for t in tokens if t not in marks]
    assert Vocabulary.from_state(json.loads(json.dumps(vocabulary.state()))) == vocabulary


def test_unknown_tokens_without_an_id_for_them_are_listed():
    vocabulary = Vocabulary(["a"], specials=())
    with pytest.raises(ValueError, match=r'^tokens outside the vocabulary of 1: "", "b\\n", "c"$'):
        vocabulary.encode(["a", "c", "", "b\n"])
    with pytest.raises(ValueError, match=r"""^tokens .* of 1: 3, "b'x'", "c"$"""):
        vocabulary.encode(["c", 3, b"x"])


@pytest.mark.parametrize("stranger", [None, 3, math.nan, b"a"])
def test_what_is_no_token_is_not_an_unknown_one(stranger):
    with pytest.raises(TypeError, match="tokens must be an iterable of str, got"):
        Vocabulary(["a"]).encode(["a", stranger])


@pytest.mark.parametrize("mark", ["bos", "eos"])
@pytest.mark.parametrize("value", ["no", 0, None, np.array([3])])
def test_a_mark_is_set_or_not(mark, value):
    with pytest.raises(TypeError, match=f"{mark} must be True or False, got"):
        Vocabulary(["a"]).encode(["a"], **{mark: value})


@pytest.mark.parametrize("mark", ["bos", "eos"])
def test_marks_without_an_id_are_refused(mark):
    with pytest.raises(ValueError, match=f"{mark} must be False: <{mark}> is none of"):
        Vocabulary(["a"], specials=("<unk>",)).encode(["a"], **{mark: True})


@pytest.mark.parametrize(
    "specials", [("<pad>", "<pad>"), ("<mask>",), ("pad",), "<pad>", [["<pad>"]]]
)
def test_other_special_tokens_are_refused(specials):
    with pytest.raises(ValueError, match="specials must be some of"):
        Vocabulary(["a"], specials=specials)


@pytest.mark.parametrize("specials", [None, 5])
def test_special_tokens_are_a_sequence(specials):
    with pytest.raises(TypeError, match=f"^specials must be some of .*, got {specials}$"):
        Vocabulary(["a"], specials=specials)


def test_special_tokens_may_be_an_iterator():
    special = Vocabulary(["a", "<pad>"], specials=iter(["<pad>"]))
    assert special == Vocabulary(["a"], specials=["<pad>"])


@pytest.mark.parametrize("count", ["x", None, [1]])
def test_counts_are_numbers(count):
    with pytest.raises(TypeError, match=r"^tokens must have integer counts, got .* of 'a'$"):
        Vocabulary({"b": 1, "a": count})


def test_a_text_is_no_list_of_tokens():
    with pytest.raises(TypeError, match="an iterable of str, got str; a tokeniser makes"):
        Vocabulary("abc")
    with pytest.raises(TypeError, match="got bytes"):
        Vocabulary(["abc"]).encode(b"abc")
    for tokens in (5, None, [["a"], ["b"]]):
        for call in (Vocabulary, Vocabulary(["abc"]).encode):
            with pytest.raises(TypeError, match="tokens must be an iterable of str"):
                call(tokens)
    with pytest.raises(TypeError, match="an iterable of str, got 1 in it"):
        Vocabulary(["a", 1])
    with pytest.raises(ValueError, match="tokens must be at least one"):
        Vocabulary([], specials=())
    with pytest.raises(ValueError, match="min_count must be a positive integer"):
        Vocabulary(["a"], min_count=0)


@pytest.mark.parametrize("ids", [[6], [-1]])
def test_ids_without_a_token_are_refused(ids):
    with pytest.raises(ValueError, match=r"ids must be in 0\.\.5, got"):
        Vocabulary(["a", "b"]).decode(ids)


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        "tokens",
        {},
        {"tokens": ["a"]},
        {"tokens": None, "specials": []},
        {"tokens": "ab", "specials": []},
        {"tokens": ["a", "a"], "specials": []},
        {"tokens": [1], "specials": []},
        {"tokens": [["a"]], "specials": []},
        {"tokens": [], "specials": []},
        {"tokens": ["a"], "specials": ["<pad>"]},
        {"tokens": ["<pad>", "a"], "specials": "<pad>"},
        {"tokens": ["a", "b"], "specials": ["a"]},
        {"tokens": ["<pad>", "a"], "specials": [["<pad>"]]},
        {"tokens": ["<pad>", "<pad>"], "specials": ["<pad>", "<pad>"]},
    ],
)
def test_damaged_states_are_refused(state):
    with pytest.raises(ValueError, match=r"(state|specials|tokens) must"):
        Vocabulary.from_state(state)


@pytest.mark.parametrize(
    "state", [None, [], {}, {"characters": 5}, {"characters": ""}, {"characters": "ba"}]
)
def test_damaged_states_of_characters_are_refused(state):
    with pytest.raises(ValueError, match=r"(state|text) must"):
        CharVocabulary.from_state(state)


def test_a_vocabulary_is_read_in_the_order_of_its_ids():
    assert list(CharVocabulary("hello")) == ["e", "h", "l", "o"]
    assert list(Vocabulary(["to", "be", "to"])) == [*SPECIALS, "to", "be"]
    assert "o" in CharVocabulary("hello")
