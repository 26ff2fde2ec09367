"""Data sets by name: from folders, from addresses, and their licences."""

import functools
import http.server
import sys
import threading

import pytest
from archives import zipped

import fastrnn as fr
from fastrnn.data import checksums, files, registry
from fastrnn.data.dataset import DataSet, File
from fastrnn.data.sets import sentiment

GOOD = b"good\n"


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def published(monkeypatch):
    """Add the set "made-up": two files, the second made of a member of an archive."""
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    for name in ("a.txt", "b.txt"):
        value = (len(GOOD), files.digest(GOOD))
        monkeypatch.setitem(checksums.CHECKSUMS, f"set/{name}", value)

    def publish(address="https://example.invalid", checksum=""):
        member = functools.partial(files.member, name="b.txt")
        parts = (
            File("set/a.txt", (f"{address}/a.txt",)),
            File("set/b.txt", (f"{address}/b.zip{checksum}",), member),
        )
        dataset = DataSet("Made up", "nobody", "free", parts, lambda *all: all, lambda: "sample")
        monkeypatch.setitem(registry.DATASETS, "made-up", dataset)

    publish()
    return publish


def test_each_set_is_described():
    assert fr.data.names() == list(registry.DATASETS)
    for name in fr.data.names():
        text = str(fr.data.info(name))
        assert "Licence: " in text
        assert "Source: " in text
        assert "https://" in text


def test_each_file_has_a_checksum_and_an_address():
    found = [file for dataset in registry.DATASETS.values() for file in dataset.files]
    assert sorted(file.path for file in found) == sorted(checksums.CHECKSUMS)
    for file in found:
        assert file.size > 0
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.make or len(file.addresses) == 1
        for address in file.addresses:
            url, _, checksum = address.partition("#")
            assert url.startswith("https://")
            assert not checksum or len(bytes.fromhex(checksum.removeprefix("sha256="))) == 32


def test_unknown_names_are_refused():
    for function in (fr.data.load, fr.data.info):
        with pytest.raises(ValueError, match=r"one of 'tinyshakespeare', .* got 'cats'"):
            function("cats")
    with pytest.raises(TypeError, match="sample must be True or False"):
        fr.data.load("names", sample="yes")


def test_a_sample_reads_nothing(published):
    assert fr.data.load("made-up", "no such folder", sample=True) == "sample"


@pytest.mark.parametrize("place", ["set/", ""])
def test_a_folder_of_all_sets_or_of_one_is_read(published, tmp_path, place):
    put(tmp_path / f"{place}a.txt", GOOD)
    put(tmp_path / f"{place}b.txt", GOOD)
    assert fr.data.load("made-up", tmp_path) == (GOOD, GOOD)
    assert fr.data.load("made-up", str(tmp_path)) == (GOOD, GOOD)


def test_the_variable_names_a_folder_and_the_argument_goes_first(published, tmp_path, monkeypatch):
    for folder in ("one", "two"):
        put(tmp_path / folder / "a.txt", GOOD)
        put(tmp_path / folder / "b.txt", GOOD)
    put(tmp_path / "cache" / "set" / "a.txt", b"evil\n")
    monkeypatch.setattr(registry, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "one"))
    assert fr.data.load("made-up") == (GOOD, GOOD)
    (tmp_path / "one" / "a.txt").write_bytes(b"evil\n")
    assert fr.data.load("made-up", tmp_path / "two") == (GOOD, GOOD)
    with pytest.raises(ValueError, match=r"one.a\.txt is not the a\.txt"):
        fr.data.load("made-up")


def test_folders_without_the_files_are_refused(published, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"has no set/a\.txt; without it, it is fetched"):
        fr.data.load("made-up", tmp_path)
    with pytest.raises(ValueError, match=r"folder must be a folder, got .*nowhere"):
        fr.data.load("made-up", tmp_path / "nowhere")
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"FASTRNN_DATA must be a folder, got .*nowhere"):
        fr.data.load("made-up")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"evil\n", "SHA-256 .*, expected"), (GOOD * 2, "more than the 5 bytes"), (b"", "SHA-256")],
)
def test_other_files_are_refused_and_left_alone(published, tmp_path, content, message):
    put(tmp_path / "a.txt", GOOD)
    put(tmp_path / "b.txt", content)
    with pytest.raises(ValueError, match=message) as error:
        fr.data.load("made-up", tmp_path)
    assert str(tmp_path / "b.txt") in str(error.value)
    assert (tmp_path / "b.txt").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


def test_fetching_needs_pooch(published, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"fetching data sets needs pooch: .*fastrnn\[data\]"):
        fr.data.load("made-up")


def test_what_is_in_the_cache_needs_no_pooch(published, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("a.txt", "b.txt"):
        put(tmp_path / "fastrnn" / "set" / name, GOOD)
    assert fr.data.load("made-up") == (GOOD, GOOD)


@pytest.mark.data
def test_the_cache_is_where_pooch_has_it(monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert registry.cache() == pooch.os_cache("fastrnn")


@pytest.fixture
def served(published, tmp_path, monkeypatch):
    """Serve a folder at an address, and put the cache elsewhere; return both and what was asked."""
    pooch = pytest.importorskip("pooch")
    pooch.get_logger().setLevel("ERROR")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    folder, cache = tmp_path / "served", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        published(f"http://127.0.0.1:{server.server_port}")
        yield folder, cache / "fastrnn", asked
        server.shutdown()
        thread.join()


def kept(cache):
    return sorted(path.name for path in cache.glob("set/*"))


@pytest.mark.data
def test_a_set_is_fetched_once(served):
    folder, cache, asked = served
    put(folder / "a.txt", GOOD)
    put(folder / "b.zip", zipped({"b.txt": GOOD}))
    assert fr.data.load("made-up") == (GOOD, GOOD)
    assert sorted(set(asked)) == ["/a.txt", "/b.zip"]
    assert kept(cache) == ["a.txt", "b.txt"]
    asked.clear()
    assert fr.data.load("made-up") == (GOOD, GOOD)
    assert asked == []


@pytest.mark.data
def test_the_folder_of_the_variable_saves_the_fetching(served, tmp_path, monkeypatch):
    folder, _, asked = served
    put(folder / "b.zip", zipped({"b.txt": GOOD}))
    put(tmp_path / "own" / "a.txt", GOOD)
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path / "own"))
    assert fr.data.load("made-up") == (GOOD, GOOD)
    assert set(asked) == {"/b.zip"}


@pytest.mark.data
@pytest.mark.parametrize(
    "archive", [zipped({"b.txt": b"evil\n"}), zipped({"c.txt": GOOD}), b"no archive"]
)
def test_nothing_wrong_is_cached(served, archive):
    folder, cache, _ = served
    put(folder / "a.txt", GOOD)
    put(folder / "b.zip", archive)
    with pytest.raises(ValueError, match=r"what came from http://127.*/b\.zip"):
        fr.data.load("made-up")
    assert kept(cache) == ["a.txt"]
    put(folder / "b.zip", zipped({"b.txt": GOOD}))
    assert fr.data.load("made-up") == (GOOD, GOOD)


@pytest.mark.data
def test_an_original_of_another_checksum_is_not_kept(served, published, request):
    folder, cache, _ = served
    address = registry.DATASETS["made-up"].files[0].addresses[0].removesuffix("/a.txt")
    published(address, "#sha256=" + "0" * 64)
    put(folder / "a.txt", GOOD)
    put(folder / "b.zip", zipped({"b.txt": GOOD}))
    with pytest.raises(ValueError, match=r"hash of downloaded file"):
        fr.data.load("made-up")
    assert kept(cache) == ["a.txt"]
    assert list(cache.glob("originals/*b.zip")) == []


@pytest.mark.data
def test_addresses_that_do_not_answer_are_named(served):
    with pytest.raises(OSError, match=r"cannot fetch http://127.*/a\.txt: .*FASTRNN_DATA may name"):
        fr.data.load("made-up")


def test_archives_of_the_tables_hold_what_their_rows_say():
    rows = {file.path: file for file in sentiment.DATASETS["rt-polarity"].files}
    archive = zipped({"sentence_polarity/rt-polarity.neg": b"bad\n"})
    assert rows["sentiment/rt-polarity.neg.txt.gz"].make(archive) == b"bad\n"
