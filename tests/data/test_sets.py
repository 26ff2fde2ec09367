"""The data sets: files made from the originals, results of the loaders, and the samples."""

import json
import wave
from io import BytesIO

import numpy as np
import pytest
from archives import zipped

from fastrnn.data.registry import DATASETS
from fastrnn.data.sets import (
    dialogue,
    motion,
    music,
    names,
    pictures,
    sentiment,
    series,
    speech,
    text,
    translation,
)


def test_texts_keep_every_character():
    assert text.load_tinyshakespeare(b"First Citizen:\n\n") == "First Citizen:\n\n"
    assert text.load_names(b"emma\nzo\n") == ["emma", "zo"]
    assert text.load_wikitext2(b" \n a \n", b"") == {"valid": " \n a \n", "test": ""}


def test_sentences_end_at_line_feeds_alone():
    sentences, labels = sentiment.load_uci_sentences(b"a\t b \t1\nc\xc2\x85d\t0\n", b"e\t1\n")
    assert sentences == ["a\t b", "c\x85d", "e"]
    assert labels.tolist() == [1, 0, 1]
    sentences, labels = sentiment.load_rt_polarity(b"good \n", b"bad\nworse \n")
    assert (sentences, labels.tolist()) == (["good", "bad", "worse"], [1, 0, 0])


def test_names_are_labelled_by_file():
    found, labels, classes = names.load_genders(b"Ann\n\nGale \n", b"Bob\n")
    assert found == ["Ann", "Gale", "Bob"]
    assert labels.tolist() == [0, 0, 1]
    assert classes == ["female", "male"]


def test_words_lose_stress_and_other_pronunciations():
    lines = ["A 1 AH0", "AB 1 AE1 B", "AB 2 EY1 B IY1", "ABC 1 EY1 B IY0", "O'X 1 AA1"]
    lines += [f"{'B' * n} 1 B" for n in (2, 3, 14, 15, 4)]
    made = translation.make_cmudict(zipped({"cmudict/cmudict": "\n".join(lines)}))
    assert translation.load_cmudict(made) == [("ab", ["AE", "B"]), ("b" * 14, ["B"])]


def test_attributions_stay_with_their_sentences():
    pairs = translation.load_eng_fra("Go.\tVa\u202f!\tCC\nHi.\tSalut.\tBY\n".encode())
    assert pairs == [("Go.", "Va\u202f!", "CC"), ("Hi.", "Salut.", "BY")]


def test_questions_see_the_story_before_them():
    story = "1 Mary went home.\n2 Is Mary out? \tno\t1\n3 She left.\n4 Is Mary out?\tyes\t1 3\n"
    stories = dialogue._stories(story + "1 John is here.\n2 Where is john?\there\t1\n")
    first, second, third = stories
    assert first == ([["mary", "went", "home"]], ["is", "mary", "out"], "no")
    assert second[0] == [["mary", "went", "home"], ["she", "left"]]
    assert third == ([["john", "is", "here"]], ["where", "is", "john"], "here")


@pytest.mark.data
def test_conversations_become_pairs():
    pytest.importorskip("yaml")
    folder = "chatterbot_corpus/data/english"
    wheel = zipped(
        {
            f"{folder}/b.yml": "conversations:\n- - Hi  there\n  - Hello.\n  - How are\n    you?\n",
            f"{folder}/a.yml": "categories: [x]\nconversations:\n- [1, 2]\n- [alone]\n",
            "chatterbot_corpus/data/french/c.yml": "conversations: [[Salut, Bonjour]]",
        }
    )
    assert dialogue.load_chatterbot(dialogue.make_chatterbot(wheel)) == [
        ("a", "1", "2"),
        ("b", "Hi there", "Hello."),
        ("b", "Hello.", "How are you?"),
    ]


def test_melodies_are_read_from_lisp():
    note = "((st {}) (pitch {}) (dur 4) (keysig {}) (timesig 16) (fermata {}))"
    lisp = f"\n(1 {note.format(8, 67, 1, 0)}{note.format(12, 71, 1, 1)})\n\n"
    lisp += f"(20 {note.format(0, 60, -3, 0)})"
    made = json.loads(music.make_chorales(lisp.encode()))
    assert [melody["id"] for melody in made] == [1, 20]
    first, second = music.load_chorales(music.make_chorales(lisp.encode()))
    assert (first["keysig"], second["keysig"], first["timesig"]) == (1, -3, 16)
    assert first["start"].tolist() == [8, 12]
    assert first["pitch"].tolist() == [67, 71]
    assert first["duration"].tolist() == [4, 4]
    assert first["fermata"].tolist() == [0, 1]


def test_gestures_are_read_from_tables():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((5, 18)).round(6)
    phases = ["Rest", "Prepara\xe7\xe3o", "Stroke", "Hold", "Retraction"]
    header = ",".join([*motion.COLUMNS, "timestamp", "phase"])
    lines = [",".join([*map(str, x), str(k), p]) for k, (x, p) in enumerate(zip(frames, phases))]
    table = "\n".join([header, *lines, ""]).encode("latin-1")
    archive = zipped({f"{name}_raw.csv": table for name in motion.VIDEOS})
    gestures = motion.load_gestures(motion.make_gestures(archive))
    assert list(gestures.videos) == list(motion.VIDEOS)
    x, y = gestures.videos["b1"]
    assert np.array_equal(x, frames.astype(np.float32))
    assert y.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="a1_raw"):
        motion.make_gestures(zipped({}))


def test_finger_tracks_are_read_from_a_table():
    table = "\n".join(",".join(map(str, [k, *range(k, k + 32)])) for k in range(4))
    tracks = motion.load_finger_tracks(motion.make_finger_tracks(table.encode()))
    assert tracks.x.shape == (4, 16, 2)
    assert tracks.x[3, 1].tolist() == [5, 6]
    assert tracks.y.tolist() == [0, 1, 2, 3]


def test_vowels_are_read_from_a_wheel():
    def table(*lengths):
        lines = [
            ":".join([*(",".join([f"{c}.5"] * length) for c in range(12)), str(k + 1)])
            for k, length in enumerate(lengths)
        ]
        return "\n".join(["# a comment", "@dimensions 12", "@data", *lines, ""])

    folder = "aeon/datasets/data/JapaneseVowels/JapaneseVowels"
    wheel = zipped({f"{folder}_TRAIN.ts": table(7, 9), f"{folder}_TEST.ts": table(8, 8, 10)})
    vowels = speech.load_japanese_vowels(speech.make_japanese_vowels(wheel))
    assert [len(x) for x in vowels.train] == [7, 9]
    assert [len(x) for x in vowels.test] == [8, 8, 10]
    assert vowels.train[1][5].tolist() == [c + 0.5 for c in range(12)]
    assert vowels.test_labels.tolist() == [0, 1, 2]


def recording(samples, rate=8000):
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.asarray(samples, "<i2").tobytes())
    return file.getvalue()


def test_spoken_digits_are_turned_into_spectra():
    rng = np.random.default_rng(0)
    waves = {
        f"digits/recordings/{name}.wav": rng.integers(-9000, 9000, length)
        for name, length in {"3_bob_10": 200, "3_bob_2": 1000, "0_ann_0": 279}.items()
    }
    archive = zipped({"digits/README.md": ""} | {n: recording(w) for n, w in waves.items()})
    digits = speech.load_spoken_digits(speech.make_spoken_digits(archive))
    assert digits.digits.tolist() == [0, 3, 3]
    assert digits.speakers == ["ann", "bob", "bob"]
    assert digits.indices.tolist() == [0, 10, 2]
    assert [len(x) for x in digits.features] == [1, 1, 11]
    exact = [speech.log_mel(waves[name] / 32768) for name in sorted(waves)]
    step = np.ptp(np.concatenate(exact)) / 255
    for found, expected in zip(digits.features, exact):
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= step / 2 + 1e-5
    with pytest.raises(ValueError, match="8 kHz"):
        speech.make_spoken_digits(
            zipped({"x/recordings/0_a_0.wav": recording([1] * 300, rate=16000)})
        )


def test_spectra_follow_their_definition():
    samples = np.random.default_rng(1).uniform(-1, 1, 280)
    emphasised = [samples[0], *(samples[k] - 0.97 * samples[k - 1] for k in range(1, 280))]
    mel = [2595 * np.log10(1 + f / 700) for f in (60, 4000)]
    points = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(*mel, 22)]
    edges = [int(f * 257 / 8000) for f in points]
    for t, found in enumerate(speech.log_mel(samples)):
        windowed = [
            emphasised[80 * t + n] * (0.54 - 0.46 * np.cos(2 * np.pi * n / 199)) for n in range(200)
        ]
        power = [
            abs(sum(x * np.exp(-2j * np.pi * k * n / 256) for n, x in enumerate(windowed))) ** 2
            for k in range(129)
        ]
        for band, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:])):
            energy = sum(power[k] * (k - a) / (b - a) for k in range(a, b))
            energy += sum(power[k] * (c - k) / (c - b) for k in range(b, c))
            assert found[band] == pytest.approx(np.log(energy + 1e-8), abs=1e-9)


@pytest.mark.parametrize("broken", ["feats", "scale", "offset"])
def test_spectra_that_are_missing_are_refused(broken):
    arrays = {"lens": np.array([2]), "scale": np.float32(1), "offset": np.float32(0)}
    arrays |= {"feats": np.zeros((2, 20), np.uint8)}
    del arrays[broken]
    with pytest.raises(ValueError, match=r"features of spoken-digits must be \(2, 20\)"):
        speech.load_spoken_digits(arrays)


@pytest.mark.data
def test_pictures_are_put_on_white_and_shrunk():
    image = pytest.importorskip("PIL.Image")
    file = BytesIO()
    image.new("RGBA", (136, 68), (255, 0, 0, 128)).save(file, "PNG")
    small = pictures._shrink(image, file.getvalue())
    assert small.shape == (20, 20, 3)
    assert small.dtype == np.uint8
    assert (small[:2] == 255).all()
    assert (small[-2:] == 255).all()
    assert np.abs(small[10].astype(int) - [255, 127, 127]).max() <= 1


def test_series_have_years():
    index, values = series.load_yearly(b'"YEAR","X"\n1700,5\n1701,1.5\n')
    assert (index.tolist(), values.tolist()) == ([1700, 1701], [5, 1.5])
    index, values = series.load_airline(b"Date,P\n1949-01,112\n1949-12,118\n")
    assert index.tolist() == [1949, 1949 + 11 / 12]
    index, values = series.load_elnino(b"Y,A\n1950," + b",".join([b"2.5"] * 12) + b"\n")
    assert len(index) == len(values) == 12
    assert index[6] == 1950.5
    index, values = series.load_co2(b"date,co2\n20000101,370.5\n20000702,\n")
    assert index.tolist() == [2000, 2000.5]
    assert np.isnan(values).tolist() == [False, True]
    index, values = series.load_solar(
        b"t,s\n2021-05-01 00:00:00+00:00,0\n2021-05-02 12:00+00:00,7\n"
    )
    assert index.tolist() == [0, 1.5]


def form(value):
    """Describe the types in a value, of a list or a mapping those of the first entry."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.ndim, value.shape[1:]
    if isinstance(value, dict):
        return {name: form(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return type(value).__name__, [form(entry) for entry in value]
    if isinstance(value, list):
        return list, form(value[0])
    return type(value).__name__


SENTENCES = ("tuple", [(list, "str"), ("int64", 1, ())])
NAMES = ("tuple", [(list, "str"), ("int64", 1, ()), (list, "str")])
STORIES = (list, ("tuple", [(list, (list, "str")), (list, "str"), "str"]))
SERIES = ("Series", [("float64", 1, ())] * 2)
FORMS = {
    "tinyshakespeare": "str",
    "names": (list, "str"),
    "wikitext2": {"valid": "str", "test": "str"},
    "rt-polarity": SENTENCES,
    "uci-sentences": SENTENCES,
    "surnames": NAMES,
    "genders": NAMES,
    "eng-fra": (list, ("tuple", ["str", "str", "str"])),
    "cmudict": (list, ("tuple", ["str", (list, "str")])),
    "chatterbot": (list, ("tuple", ["str", "str", "str"])),
    "babi": {task: {"train": STORIES, "test": STORIES} for task in dialogue.TASKS},
    "emoji": (
        "Emoji",
        [("uint8", 4, (20, 20, 3)), (list, "str"), ("bool", 1, ()), (list, "str"), (list, "str")],
    ),
    "gestures": (
        "Gestures",
        [
            {v: ("tuple", [("float32", 2, (18,)), ("int64", 1, ())]) for v in motion.VIDEOS},
            (list, "str"),
            (list, "str"),
        ],
    ),
    "finger-tracks": ("FingerTracks", [("float32", 3, (16, 2)), ("int64", 1, ()), (list, "str")]),
    "japanese-vowels": (
        "JapaneseVowels",
        [*2 * [(list, ("float32", 2, (12,))), ("int64", 1, ())], (list, "str")],
    ),
    "spoken-digits": (
        "SpokenDigits",
        [(list, ("float32", 2, (20,))), ("int64", 1, ()), (list, "str"), ("int64", 1, ())],
    ),
    "chorales": (
        list,
        {"keysig": "int", "timesig": "int"}
        | dict.fromkeys(("start", "pitch", "duration", "fermata"), ("int64", 1, ())),
    ),
    **dict.fromkeys(("sunspots", "airline", "co2", "elnino", "nile", "lynx", "solar"), SERIES),
}


@pytest.mark.parametrize("name", DATASETS)
def test_samples_have_the_form_of_the_set_and_are_always_the_same(name):
    sample = DATASETS[name].sample()
    assert form(sample) == FORMS[name]
    assert repr(sample) == repr(DATASETS[name].sample())
