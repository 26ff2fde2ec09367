"""Addresses of public originals; ``#sha256=`` is the checksum of one, where it is known."""

_PYPI = "https://files.pythonhosted.org/packages"
_UCI = "https://archive.ics.uci.edu/static/public"

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


def github(repository: str, commit: str, path: str) -> str:
    """Return the address of a file in a repository on GitHub, as it was at a commit."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def nltk(name: str, commit: str, sha256: str = "") -> str:
    """Return the address of an archive of texts in nltk_data."""
    address = github("nltk/nltk_data", commit, f"packages/corpora/{name}.zip")
    return f"{address}#sha256={sha256}" if sha256 else address
