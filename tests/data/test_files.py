"""Files of data sets, well and badly made."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from archives import zipped

from fastrnn.data import files


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "deep/in/a.csv"])
def test_texts_are_read_as_they_were_written(tmp_path, name):
    content = "é\r\n\n".encode() * 100
    files.write_content(tmp_path / name, content)
    assert files.read_content(tmp_path / name, len(content)) == content
    assert [path.name for path in tmp_path.rglob("*.*")] == [name.rpartition("/")[2]]


def test_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {
        "x": np.arange(6, dtype=np.float16).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "names": np.array(["a", "bcd"]),
        "scalar": np.float32(2),
        "none": np.zeros((0, 3), np.int8),
    }
    path = tmp_path / "a.npz"
    files.write_content(path, arrays)
    read = files.read_content(path, 10_000)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
    assert files.digest(read) == files.digest(arrays)
    assert files.digest(read, ("x",)) == files.digest({"x": arrays["x"]}) != files.digest(read)


def test_a_checksum_sees_names_dtypes_and_shapes():
    array = np.zeros((2, 3), np.int8)
    same = [{"a": array}, {"b": array}, {"a": array.reshape(3, 2)}, {"a": array.view(np.uint8)}]
    assert len({files.digest(content) for content in same}) == 4
    assert files.digest(b"abc").startswith("ba7816bf")  # FIPS 180-2, appendix B.1


def test_others_may_read_what_a_shared_folder_holds(tmp_path):
    (tmp_path / "plain.txt").write_bytes(b"")
    files.write_content(tmp_path / "a.txt", b"")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        files.write_content(tmp_path / "a.txt", "no bytes")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_found_under_the_last_parts_of_its_path(tmp_path):
    assert files.find("set/part/a.txt", tmp_path) is None
    for place in ("a.txt", "part/a.txt", "set/part/a.txt"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert files.find("set/part/a.txt", tmp_path) == path
    assert files.find("tmp/part", tmp_path) is None  # a folder


GZIP = gzip.compress(b"abc" * 1000)
NPZ = zipped({"x.npy": saved(np.arange(100))})
CLAIM = b"\x93NUMPY\x01\x00v\x00" + (
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
)

HOSTILE = {
    "missing": ("a.txt", None, "No such file"),
    "long text": ("a.txt", b"x" * 5000, "holds more than the 4000 bytes"),
    "gzip bomb": ("a.gz", gzip.compress(b"\0" * 10**6), "holds more than the 4000 bytes"),
    "truncated gzip": ("a.gz", GZIP[:-10], "cannot read"),
    "wrong gzip": ("a.gz", b"plain text", "Not a gzipped file"),
    "corrupt gzip": ("a.gz", GZIP[:20] + b"\xff" * 8 + GZIP[28:], "cannot read"),
    "no zip": ("a.npz", b"plain text", "not a zip file"),
    "empty npz": ("a.npz", b"", "not a zip file"),
    "truncated npz": ("a.npz", NPZ[:-30], "not a zip file"),
    "corrupt npz": ("a.npz", NPZ[:60] + b"\xff" * 8 + NPZ[68:], "cannot read"),
    "zip bomb": ("a.npz", zipped({"x.npy": b"\0" * 10**6}), "more than 4000 bytes, got 1000000"),
    "pickle": ("a.npz", zipped({"x.npy": saved(np.array([{}, 1]), allow_pickle=True)}), "object"),
    "false claim": ("a.npz", zipped({"x.npy": CLAIM + b"\0" * 800}), "in 800 bytes"),
    "no array": ("a.npz", zipped({"x.npy": b"abc"}), "cannot read"),
    "bad header": ("a.npz", zipped({"x.npy": CLAIM.replace(b"descr", b"dexcr")}), "cannot read"),
    "other method": ("a.npz", zipped({"x.npy": b""}, zipfile.ZIP_LZMA), "must be deflated"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_error_that_names_them(tmp_path, case):
    name, content, message = HOSTILE[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        files.read_content(path, 4000)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_truncation_and_flipped_byte_is_an_error_or_the_same(tmp_path):
    arrays = files.read_content(_write(tmp_path, NPZ), 4000)
    for k in range(0, len(NPZ), 7):
        for content in (NPZ[:k], NPZ[:k] + bytes([NPZ[k] ^ 0x55]) + NPZ[k + 1 :]):
            try:
                read = files.read_content(_write(tmp_path, content), 4000)
            except ValueError:
                continue
            assert [*map(np.ndarray.tolist, read.values())] == [arrays["x"].tolist()]


def _write(folder, content):
    path = folder / "a.npz"
    path.write_bytes(content)
    return path


def test_members_are_read_by_name_and_go_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = zipped({"in/b.txt": "b", "in/a.txt": "a", "in/c.md": "c", "../evil.txt": "e"})
    found = files.members(archive, "in/", ".txt")
    assert list(found.items()) == [("in/a.txt", b"a"), ("in/b.txt", b"b")]
    assert files.member(archive, "in/a.txt") == b"a"
    assert files.member(archive, "../evil.txt") == b"e"
    assert list(tmp_path.parent.glob("evil*")) == []
    with pytest.raises(ValueError, match=r"cannot read in/z\.txt in the archive"):
        files.member(archive, "in/z.txt")
    with pytest.raises(ValueError, match=r"in/a\.txt must not expand to more than 0 bytes, got 1"):
        files.member(archive, "in/a.txt", limit=0)
    with pytest.raises(ValueError, match=r"in/b\.txt must not expand to more than 0 bytes, got 1"):
        files.members(archive, "in/", ".txt", limit=1)  # which in/a.txt takes up
    with pytest.raises(ValueError, match="cannot read the archive"):
        files.members(archive[:-30], "", "")


def debian(data):
    """A package of three files; the first is of an odd length, which is padded."""
    content = b"!<arch>\n"
    for name, part in (
        ("debian-binary", b"2.0\n."),
        ("control.tar.xz", b""),
        ("data.tar.xz", data),
    ):
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode()
        content += part + b"\n" * (len(part) % 2)
    return content


def tarred(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_a_file_is_read_out_of_a_package():
    package = debian(tarred(("./a/x.ttf", b"font", tarfile.REGTYPE)))
    assert files.debian_member(package, "x.ttf") == b"font"


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"!<arch>\n" + b"x" * 200,
        debian(b"no tar"),
        debian(tarred(("./a/y.ttf", b"font", tarfile.REGTYPE))),
        debian(tarred(("./x.ttf", b"", tarfile.SYMTYPE))),
        debian(tarred(*2 * [("./x.ttf", b"font", tarfile.REGTYPE)])),
        debian(tarred(("./x.ttf", b"too long", tarfile.REGTYPE))),
        debian(tarred(("./x.ttf", b"font", tarfile.REGTYPE)))[:-120],
    ],
)
def test_packages_without_the_file_are_refused(package):
    with pytest.raises(ValueError, match=r"cannot read x\.ttf in the package"):
        files.debian_member(package, "x.ttf", limit=5)


def test_a_missing_package_is_named_with_its_remedy():
    with pytest.raises(ImportError, match=r"drawing needs no_such: .*fastrnn\[data\]") as error:
        files.needed("no_such", "drawing")
    assert error.value.name == "no_such"
