"""
The face: what is exported is what is visible, and each of it explains itself.
"""

import ast
import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
import holdfast.testing

FACES = [holdfast, holdfast.testing]


def names() -> Iterator[tuple[types.ModuleType, str]]:
    """
    Yield every public name.
    """
    for face in FACES:
        yield from ((face, name) for name in face.__all__)


@pytest.mark.parametrize("face", FACES)
def test_all_is_what_is_visible(face: types.ModuleType) -> None:
    """
    Nothing is exported that is not there, and nothing is there that is not exported.
    """
    visible = {
        name
        for name in dir(face)
        if not name.startswith("_") and not isinstance(getattr(face, name), types.ModuleType)
    }

    assert visible == set(face.__all__)
    assert len(face.__all__) == len(set(face.__all__))


@pytest.mark.parametrize(("face", "name"), list(names()))
def test_every_public_name_has_a_docstring(face: types.ModuleType, name: str) -> None:
    """
    Of its own, not one that it inherits. A name for a union has a comment above it instead.
    """
    value = getattr(face, name)

    if inspect.isclass(value) or inspect.isfunction(value):
        assert (value.__doc__ or "").strip()
        assert vars(value)["__doc__"] if inspect.isclass(value) else True
    else:
        assert commented(name)


def commented(name: str) -> bool:
    """
    Whether a module of the heart gives this name to something under a `#:` comment.
    """
    for file in Path(inspect.getfile(holdfast)).parent.glob("runtime/*.py"):
        lines = file.read_text().splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
                return lines[node.lineno - 2].startswith("#:")
    return False


@pytest.mark.parametrize(
    ("face", "name"), [(face, name) for face, name in names() if inspect.isclass(getattr(face, name))]
)
def test_every_public_method_has_a_docstring(face: types.ModuleType, name: str) -> None:
    """
    What a class adds is explained where it is added.
    """
    undocumented = [
        method
        for method, value in vars(getattr(face, name)).items()
        if not method.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
        and not (inspect.getdoc(value) or "").strip()
    ]

    assert [] == undocumented


def test_scenarios_need_nothing_but_holdfast() -> None:
    """
    hypothesis is for check_workflow alone: without it everything else of holdfast.testing works.
    """
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from holdfast.testing import given\n"
        "from tests.controls import Add, Added, Counter\n"
        "given(Counter).when(Add('n', 2)).then(Added(2)).then_state(2)\n"
    )
    root = Path(__file__).parent.parent.parent

    run = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )

    assert (0, "", "") == (run.returncode, run.stdout, run.stderr)


def test_the_version_is_the_packages() -> None:
    """
    One number, in two places.
    """
    project = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text()

    assert f'\nversion = "{holdfast.__version__}"\n' in project


def test_all_errors_are_exported() -> None:
    """
    Whatever Holdfast raises, users can name.
    """
    from holdfast.runtime import errors

    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, holdfast.HoldfastError)
    }

    assert raised <= set(holdfast.__all__)
