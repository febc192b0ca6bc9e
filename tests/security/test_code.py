"""
What the code must never do with bytes that somebody sent: run them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("runtime", "brokers", "actors", "holdfast", "examples", "benchmarks")

#: Modules that make objects of bytes by running what the bytes say.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "joblib"}
#: Calls that run text.
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "commands.getoutput"}
#: YAML that makes any object; only what says that it is safe may be used.
YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def sources() -> Iterator[Path]:
    """
    Yield every file of the project that ships or is run; links to other folders are not followed.
    """
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(part.is_symlink() for part in (path, *path.parents) if ROOT in part.parents):
                yield path


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def wrongs(text: str) -> list[str]:
    """
    Return what is wrong with a source.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                found.append(name)
            if name.startswith("yaml.") and name.removeprefix("yaml.") in YAML:
                safe = any("Safe" in ast.dump(one) for one in (*node.args, *node.keywords))
                found += [] if safe and name.startswith("yaml.load") else [name]
            if any(one.arg == "shell" and getattr(one.value, "value", None) is True for one in node.keywords):
                found.append("shell=True")
    return found


def test_there_are_sources() -> None:
    """
    The scan sees the whole project.
    """
    names = {path.relative_to(ROOT).parts[0] for path in sources()}

    assert {"runtime", "brokers", "actors", "holdfast", "examples"} <= names
    assert len(list(sources())) > 100


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_was_sent_is_run(path: Path) -> None:
    """
    No pickle, no eval, no YAML that makes objects, no shell.
    """
    assert [] == wrongs(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import dill as d",
        "eval('1')",
        "exec(code)",
        "yaml.load(x)",
        "yaml.unsafe_load(x)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
    ],
)
def test_the_scan_finds_it(text: str) -> None:
    """
    Each of them would be found.
    """
    assert 1 == len(wrongs(text))


@pytest.mark.parametrize(
    "text", ["yaml.safe_load(x)", "yaml.load(x, Loader=yaml.SafeLoader)", "re.compile('x')"]
)
def test_the_scan_lets_pass_what_is_safe(text: str) -> None:
    """
    And nothing else.
    """
    assert [] == wrongs(text)
