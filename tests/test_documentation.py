"""The examples in docstrings and in the README run, and are true."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from gradients import slope

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
README = Path(__file__).parents[1] / "README.md"
MODELS = README.parent / "docs" / "models.md"
DOCUMENTS = [path for path in sorted(README.parent.glob("*.md")) if README.exists()]
DOCUMENTS += sorted(README.parent.glob("docs/*.md"))

WITH_EXAMPLES = [
    path.relative_to(PACKAGE.parent)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def module_of(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=pytest.mark.torch if "torch" in name else ())
        for name in map(module_of, WITH_EXAMPLES)
    ],
)
def test_examples_in_docstrings_are_true(module):
    if "torch" in module:
        pytest.importorskip("torch")
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed


def docstrings_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_sections_of_docstrings_are_those_of_numpydoc(path):
    """In its order, and no paragraph after one: it would be part of the section's last entry."""
    order = ["Parameters", "Returns", "Yields", "Attributes", "Raises", "Notes", "References"]
    order.append("Examples")
    for text in docstrings_of(path):
        found = re.findall(r"^(\w[\w ]*)\n-{3,}$", text, re.MULTILINE)
        assert found == sorted(found, key=order.index)
        assert not found or not re.search("^Sources?[ :]", text, re.MULTILINE)


@pytest.mark.skipif(not README.exists(), reason="no README beside these tests")
def test_the_lines_of_the_readme_run():
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(lines, names)
    assert names["y"].shape == (128,)


@pytest.mark.skipif(not MODELS.exists(), reason="no documentation beside these tests")
def test_losses_and_models_of_ones_own(tmp_path):
    """They train, their gradients are right, and a file of them is loaded."""
    rng = np.random.default_rng(0)
    names = {
        "fr": fastrnn,
        "np": np,
        "sequences": [rng.standard_normal((length, 4)) for length in rng.integers(1, 6, 40)],
        "facts": rng.standard_normal((40, 3)),
    }
    names["prices"] = np.array([[x.sum()] for x in names["sequences"]]) + names["facts"][:, :1]
    (section,) = re.findall(
        r"^## Another loss, another model$(.*?)^## ",
        MODELS.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, names)
    model, inputs = names["model"], (fastrnn.data.pad(names["sequences"]), names["facts"])
    batches = fastrnn.data.Batches((names["sequences"], names["facts"]), names["prices"], 32)
    fastrnn.fit(model, batches, 40, learning_rate=1e-2)
    assert model.loss(inputs, names["prices"])[0] < names["prices"].var() / 2
    assert_is_gradient(model, inputs, names["prices"])
    model.save(tmp_path / "model")
    assert type(fastrnn.models.load(tmp_path / "model")[0]) is names["Priced"]
    regressor = names["PoissonRegressor"](4, 3, 1, inputs="vectors", seed=0)
    assert_is_gradient(regressor, inputs[0], np.arange(40)[:, None])


@pytest.mark.skipif(not MODELS.exists(), reason="no documentation beside these tests")
def test_a_loop_of_ones_own_and_averaged_weights(tmp_path):
    """They train, and a run that is resumed ends with the same average."""
    (section,) = re.findall(
        r"^## A loop of your own.*?$(.*?)^## ",
        MODELS.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    loop, averaged = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    sequences = [[k % 5, k % 3] for k in range(30)]
    batches = fastrnn.data.Batches(sequences, [k % 2 for k in range(30)], 4)
    names = {"fr": fastrnn, "batches": batches, "path": tmp_path / "run"}

    def run(code, **own):
        model = fastrnn.models.SequenceClassifier(5, 4, 2, embedding_size=3, seed=0)
        exec(code, names | {"model": model} | own)
        return model.parameters.flat_values

    assert not np.array_equal(run(loop), run(""))
    whole = run(averaged)
    assert not np.array_equal(whole, run("fr.fit(model, batches, 20)"))
    run(averaged.replace("20", "8"), path=tmp_path / "other")
    np.testing.assert_array_equal(run(averaged, path=tmp_path / "other"), whole)


def assert_is_gradient(model, inputs, targets):
    """Compare the gradient's length with the slope of the loss along it."""
    model.zero_gradients()
    model.loss_vjp(inputs, targets)[2]()
    direction = model.parameters.flat_gradients.copy()
    size = np.linalg.norm(direction)

    def loss():
        return model.loss(inputs, targets)[0]

    values = model.parameters.flat_values
    assert slope(loss, values, direction / size, 3e-3) == pytest.approx(size, rel=1e-3)


def anchors_of(document):
    """Return the anchors that GitHub gives the headings of a document."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not link.startswith("http"):
            assert target.exists(), link
            assert not anchor or anchor in anchors_of(target), link


def exists(dotted):
    """Return whether ``fr.models.load`` and so on exist; True if their library is missing."""
    value = fastrnn
    for name in dotted.split(".")[1:]:
        try:
            value = getattr(value, name)
        except ImportError:
            return True
        except AttributeError:
            return False
    return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_are_those_of_the_package(document):
    """And code is Python."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        ast.parse(block)
    names = set(re.findall(r"\bfr(?:\.[A-Za-z_]\w*)+", text))
    assert not {name for name in names if not exists(name)}


@pytest.mark.skipif(not MODELS.exists(), reason="no documentation beside these tests")
def test_all_data_sets_are_named():
    """What `load` returns of each, and on what terms; CHANGELOG says how many there are."""
    text = (MODELS.parent / "data.md").read_text(encoding="utf-8")
    names = fastrnn.data.names()
    for section in text.split("\n## ")[-2:]:
        rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        assert sorted(re.findall("`(.*?)`", " ".join(rows))) == sorted(names)
    assert f" {len(names)} public data sets" in (README.parent / "CHANGELOG.md").read_text()
