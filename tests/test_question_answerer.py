"""Questions about stories: gradients, stories alone and together, PyTorch, bad input."""

import numpy as np
import pytest
from gradients import check_gradients
from tolerances import TOLERANCES, assert_close

import fastrnn as fr
from fastrnn.data import Batches, Padded, pad
from fastrnn.models import QuestionAnswerer, load

V, H, K, E = 9, 4, 3, 5
STORIES = [
    np.array([[1, 2, 3, 0], [4, 5, 0, 0], [1, 2, 3, 0]]),
    np.array([[4, 5, 0, 0]]),
    np.array([[6, 7, 8, 1], [1, 2, 3, 0]]),
]
QUESTIONS = np.array([[8, 1, 0, 0], [4, 5, 0, 0], [8, 2, 3, 0]])  # the second is a sentence as well
ANSWERS = np.array([2, 0, 1])
INPUTS = (STORIES, QUESTIONS)


def make(**options):
    return QuestionAnswerer(V, H, K, **{"embedding_size": E, "seed": 0, **options})


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_are_those_of_central_differences(cell, dropout, backend):
    model = make(cell=cell, dropout=dropout, dtype="float64")
    check_gradients(model, lambda: model.loss_vjp(INPUTS, ANSWERS), least=1e-6)


def test_a_story_is_read_as_if_alone(backend):
    model = make(dtype="float64")
    scores = model(INPUTS)
    assert scores.shape == (3, K)
    for b, story in enumerate(STORIES):
        alone = model(([story], QUESTIONS[b : b + 1]))[0]
        assert_close(scores[b], alone, TOLERANCES["float64"])
    values, lengths = pad(STORIES)
    values[2:, 1] = 99  # beyond a story's end nothing is read
    values[2:, 2] = -1
    assert np.array_equal(model((Padded(values, lengths), QUESTIONS)), scores)


def test_dropout_is_of_words_and_stories():
    model = make(dropout=0.3)
    assert (model.sentence.input_dropout.p, model.story.dropout.p) == (0.3, 0.3)


def test_the_order_of_sentences_and_the_question_count():
    model = make()
    scores = model(INPUTS)
    assert not np.allclose(model(([STORIES[2][::-1]], QUESTIONS[2:]))[0], scores[2])
    assert not np.allclose(model(([STORIES[2]], QUESTIONS[:1]))[0], scores[2])


def test_each_distinct_sentence_is_read_once():
    model = make()
    read = model._read(INPUTS)
    rows = {tuple(row) for story in STORIES for row in story} | {tuple(q) for q in QUESTIONS}
    assert len(rows) == read.sentences.values.shape[1] == 5
    for b, story in enumerate(STORIES):
        sentences = read.sentences.values[:, read.stories[: len(story), b]].T
        assert np.array_equal(sentences, story)


def test_predictions_are_the_likeliest_answers():
    model = make()
    scores = model(INPUTS)
    assert np.array_equal(model.predict(INPUTS), scores.argmax(axis=1))
    exponentials = np.exp(scores)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(INPUTS), expected, rtol=1e-5)


def test_it_learns_stories_by_heart_in_batches():
    model = make(embedding_size=None)
    batches = Batches((STORIES, QUESTIONS), ANSWERS, 2)
    fr.training.fit(model, batches, 60, learning_rate=0.03, progress=False)
    assert np.array_equal(model.predict(INPUTS), ANSWERS)


def test_dropout_is_for_training_alone():
    model = make(dropout=0.5)
    assert model.loss(INPUTS, ANSWERS) == model.loss(INPUTS, ANSWERS)
    assert len({model.loss_vjp(INPUTS, ANSWERS)[0] for _ in range(3)}) == 3


def test_it_is_saved_and_loaded(tmp_path):
    model = make(cell="lstm", dropout=0.25)
    model.save(tmp_path / "m")
    loaded, _ = load(tmp_path / "m")
    assert type(loaded) is QuestionAnswerer
    assert loaded.config == model.config
    assert np.array_equal(loaded(INPUTS), model(INPUTS))


@pytest.mark.parametrize(
    ("stories", "questions", "error", "message"),
    [
        ([], QUESTIONS, ValueError, "stories must be one sequence or more, got none"),
        (
            STORIES[:2],
            QUESTIONS,
            ValueError,
            r"\(S, B, W\) and \(B, W\), got .*2, 4\) and \(3, 4\)",
        ),
        (STORIES, QUESTIONS[:, :3], ValueError, r"\(S, B, W\) and \(B, W\)"),
        (
            [*STORIES[:2], STORIES[2][:0]],
            QUESTIONS,
            ValueError,
            r"stories\[2\] must have at least 1 sentence",
        ),
        (
            [*STORIES[:2], STORIES[2] * 0],
            QUESTIONS,
            ValueError,
            r"at least 1 word.* \[0, 0, 0, 0\]",
        ),
        (STORIES, QUESTIONS * 0, ValueError, "at least 1 word"),
        (
            STORIES,
            QUESTIONS[:, ::-1],
            ValueError,
            r"zeros only beyond their ends, got \[0, 0, 1, 8\]",
        ),
        (
            [*STORIES[:2], STORIES[2] + 1],
            QUESTIONS,
            ValueError,
            r"stories must be in 0\.\.8, got 9",
        ),
        (STORIES, QUESTIONS - 1, ValueError, r"questions must be in 0\.\.8, got -1"),
        ([*STORIES[:2], STORIES[2] / 2], QUESTIONS, TypeError, "stories must be integers"),
        (STORIES, QUESTIONS / 2, TypeError, "questions must be integers"),
    ],
)
def test_wrong_stories_and_questions_are_refused(stories, questions, error, message):
    model = make()
    for call in (model, model.vjp):
        with pytest.raises(error, match=message):
            call((stories, questions))


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([0, 1, K], ValueError, r"targets must be in 0\.\.2, got 3"),
        ([0, 1], ValueError, r"targets must be \(3,\), got \(2,\)"),
        (["garden"] * 3, TypeError, "targets must be integers"),
    ],
)
def test_unknown_answers_are_refused(answers, error, message):
    with pytest.raises(error, match=message):
        make().loss_vjp(INPUTS, answers)


@pytest.mark.parametrize("inputs", [[[[1, 2]]], None, "a"])
def test_a_story_needs_a_question(inputs):
    with pytest.raises(TypeError, match="inputs must be a pair of stories and questions, got "):
        make().predict(inputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_answers": 1}, ValueError, "num_answers must be at least 2, got 1"),
        ({"num_answers": "2"}, TypeError, "num_answers must be a positive integer"),
        ({"vocabulary_size": 0}, ValueError, "vocabulary_size must be a positive integer, got 0"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be a positive integer, got 0"),
        ({"cell": "elman"}, ValueError, "cell must be one of"),
        ({"dropout": -1}, ValueError, "dropout must be a probability"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        QuestionAnswerer(**{"vocabulary_size": V, "hidden_size": H, "num_answers": K, **arguments})


@pytest.mark.torch
def test_loss_and_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    model = make(dtype="float64")
    loss, _, pullback = model.loss_vjp(INPUTS, ANSWERS)
    pullback()

    embedding = torch.nn.Embedding(V, E, dtype=torch.float64)
    sentence = torch.nn.GRU(E, H, dtype=torch.float64)
    story = torch.nn.GRU(2 * H, H, dtype=torch.float64)
    output = torch.nn.Linear(H, K, dtype=torch.float64)
    parts = {
        "sentence.embedding": embedding,
        "sentence.recurrent": sentence,
        "story.encoder.recurrent": story,
        "story.output": output,
    }
    parameters = {
        f"{part}.{name}": value
        for part, module in parts.items()
        for name, value in module.named_parameters()
    }
    assert parameters.keys() == model.parameters.keys()
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(torch.tensor(model.parameters[name]))

    def read(row):
        return sentence(embedding(torch.tensor(row[row != 0])))[1][0]

    scores = []
    for told, asked in zip(STORIES, QUESTIONS):
        question = read(asked)
        pairs = [torch.cat([s, s * question]) for s in map(read, told)]
        scores.append(output(story(torch.stack(pairs))[1][0]))
    expected = torch.nn.functional.cross_entropy(torch.stack(scores), torch.tensor(ANSWERS))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=TOLERANCES["float64"])
    for name, value in parameters.items():
        assert_close(model.gradients[name], value.grad.numpy(), TOLERANCES["float64"], name)
