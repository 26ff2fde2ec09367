"""Addresses of public originals; ``#sha256=`` is the checksum of one, where it is known."""

_PYPI = "https://files.pythonhosted.org/packages"
_GITHUB = "https://raw.githubusercontent.com"  # owner/repository/commit/path
_NLTK = f"{_GITHUB}/nltk/nltk_data"
_UCI = "https://archive.ics.uci.edu/static/public"

TINYSHAKESPEARE = (
    f"{_GITHUB}/karpathy/char-rnn/d1d7aa34fdb3626174bce1d753e6cc6845ce7087/"
    "data/tinyshakespeare/input.txt"
)
NAMES = f"{_GITHUB}/karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt"
WIKITEXT = {
    part: f"{_GITHUB}/pytorch/examples/{commit}/word_language_model/data/wikitext-2/{part}.txt"
    for part, commit in {
        "valid": "37ce9402ff0cae48d764d7788810fd2ed8238b25",
        "test": "cada773327ba94a5970e0d57c17c847d69dbbb8f",
    }.items()
}
SURNAMES = f"{_GITHUB}/spro/practical-pytorch/c520c52e68e945d88fff563dba1c028b6ec0197b/data/names"
GENDER_NAMES = f"{_NLTK}/b8dbf74b51d819d8021ce7a4144ef5419dab21dc/packages/corpora/names.zip"
POLARITY = (
    f"{_NLTK}/88e706f3c896835f1203b2ad5de7d90826fcaa2b/packages/corpora/sentence_polarity.zip"
)
CMUDICT = (
    f"{_NLTK}/gh-pages/packages/corpora/cmudict.zip"
    "#sha256=d07cca47fd72ad32ea9d8ad1219f85301eeaf4568f8b6b73747506a71fb5afd6"
)
ENG_FRA = (
    f"{_GITHUB}/NJUxlj/seq2seq-attention-translation/"
    "7aa6f6bdf644b3efb0678e2510ff1f7b52b59501/data/eng-fra.txt"
)
BABI = (
    f"{_GITHUB}/iamtrask/Grokking-Deep-Learning/a2bca3970033ba2da8c5da980cd0b165edece483/"
    "tasksv11/en"
)
FINGER_TRACKS = (
    f"{_GITHUB}/Kazuhito00/hand-gesture-recognition-using-mediapipe/"
    "17e9d61d2acda01378adff117ece010984b1afd9/model/point_history_classifier/point_history.csv"
)
CHORALES = f"{_GITHUB}/robbiebarrat/Bach_AI/817d568067c8040a0ca0645d849f4968b319e29c/chorales.lisp"
STATSMODELS = (
    f"{_GITHUB}/statsmodels/statsmodels/0b23dae41cf52616bbb45c01d4500cb3cff089fa/"
    "statsmodels/datasets"
)

AEON = (
    f"{_PYPI}/7d/49/034d8d142106e035fce019d8ee6f04d3ac8842490cd33f811d4df8e15da3/"
    "aeon-1.6.0-py3-none-any.whl"
    "#sha256=d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409"
)
CHATTERBOT = (
    f"{_PYPI}/59/f1/d3e3d9b233d747198c8ac2dc86f34f61cadb0a9bec7473bdf732b8955650/"
    "chatterbot_corpus-1.3.2-py2.py3-none-any.whl"
    "#sha256=f14ad14e8aafec0d5846c768fd9378f8f27348e74ccfdd154c246f7feecdc79e"
)
UCI_GESTURES = f"{_UCI}/302/gesture+phase+segmentation.zip"
UCI_SENTENCES = (
    f"{_UCI}/331/sentiment+labelled+sentences.zip"
    "#sha256=afc26626d710899948693e1a61405dce197f57ffa719fa1130d346b4cc095343"
)
# Debian's archive of all it ever published, by SHA-1: fonts-noto-color-emoji_2.042-0+deb12u1.
NOTO_EMOJI = (
    "https://snapshot.debian.org/file/3f93fe61d0e3175f46ec4641e3de9241d61ca878"
    "#sha256=a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751"
)
EMOJI_NAMES = (
    "https://unicode.org/Public/emoji/15.0/emoji-test.txt"
    "#sha256=8445f23ac8388e096be19d0262e14fceff856ff52093f2356dc89485f1a853db"
)
SPOKEN_DIGITS = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
    "26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip"
)
