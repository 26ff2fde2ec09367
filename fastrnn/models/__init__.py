"""Models: a network with a loss for each shape of a task."""

from fastrnn.models import ctc_decoding, decoding
from fastrnn.models.base import Model, load
from fastrnn.models.captioner import Captioner
from fastrnn.models.classifier import SequenceClassifier, SequenceRegressor
from fastrnn.models.ctc_recognizer import CTCRecognizer, CTCRecognizerStream
from fastrnn.models.encoder import Encoder
from fastrnn.models.feed_forward import FeedForward
from fastrnn.models.forecaster import Forecaster
from fastrnn.models.generator import SequenceGenerator
from fastrnn.models.language_model import LanguageModel, LanguageModelStream
from fastrnn.models.question_answerer import QuestionAnswerer
from fastrnn.models.seq2seq import Seq2Seq
from fastrnn.models.tagger import SequenceTagger

__all__ = [
    "CTCRecognizer",
    "CTCRecognizerStream",
    "Captioner",
    "Encoder",
    "FeedForward",
    "Forecaster",
    "LanguageModel",
    "LanguageModelStream",
    "Model",
    "QuestionAnswerer",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceGenerator",
    "SequenceRegressor",
    "SequenceTagger",
    "ctc_decoding",
    "decoding",
    "load",
]
