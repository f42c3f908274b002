"""One digest of "the code that decides a result", for cache keys and for "is this finished?".

`code_digest(function, …)` hashes the definitions that the functions reach inside this project:
functions, classes and constants, followed through imports. Of each it takes the syntax tree
without docstrings, comments and layout, and without the names under which definitions and modules
are known. A move, a rename or a reformat therefore leaves every key as it is; a changed number,
seed or call changes it. Of libraries it takes the names that are used and the installed version.

What it cannot see is for the caller to name in `settings`: the rows of a table that the code reads
(`registry.pins`), and what is found by a text (`getattr`) or started by its name (`python -m`).
"""

import ast
import copy
import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "<source>"  # name of a piece of code that is no module
BY_NAME = {  # a package on PyPI whose name is not that of the module that it installs
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "parselmouth": "praat-parselmouth",
    "pyworld": "pyworld-prebuilt",
    "pyopenjtalk": "pyopenjtalk-plus",
    "whisper": "openai-whisper",
    "py_nanotts": "py-nanotts",
    "hibari": "hibari-tts",
    "piper": "piper-tts",
}


def code_digest(*functions: Callable, settings: object = None) -> str:
    """Hash of everything in the project that decides what `functions` return.

    Args:
        functions: functions or classes of modules of this project; of a function that another one
            returned, the numbers and texts that it captured count too.
        settings: anything with a stable `repr` that is to be part of the hash, e.g. the sha256 of
            a table that the code reads.
    Returns 64 hexadecimal digits. Raises ValueError for something that is no definition of a
    module here (a lambda, a built-in).
    """
    roots = [(_module_name(f), f.__qualname__.split(".")[0]) for f in functions]
    for module, name in roots:
        if not _path(module) or name not in _open(module).definitions:
            raise ValueError(f"{module}.{name} is no definition of a module of this project")
    captured = [
        cell.cell_contents for f in functions for cell in getattr(f, "__closure__", None) or ()
    ]
    captured = [value for value in captured if isinstance(value, str | int | float | tuple | None)]
    digest = hashlib.sha256(repr([settings, captured]).encode())
    digest.update(_hash_of_all(roots))
    return digest.hexdigest()


def _module_name(function: Callable) -> str:
    """Module of a definition, also if that module is the one that `python -m` started."""
    started = getattr(sys.modules["__main__"], "__spec__", None)
    if function.__module__ == "__main__" and started:
        return started.name
    return function.__module__


def source_digest(source: str) -> str:
    """Hash of a piece of code, e.g. the cells of a notebook, and of all that it reaches here.

    The tables of `inputs/` that the reached code names count as a whole.
    """
    module = _Module(source, SOURCE)
    roots = module.references()
    digest = hashlib.sha256(module.anonymous(module.tree) + _hash_of_all(roots))
    names = {text for key in _in_order(roots) if key[1] for text in _texts(*key)}
    for file in sorted((ROOT / "inputs").glob("*.*")):
        if file.name in names and file.is_file():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def reached(source: str) -> set[str]:
    """Names, `module.definition`, of what a piece of code reaches in this project."""
    return {
        f"{module}.{name}"
        for module, name in _in_order(_Module(source, SOURCE).references())
        if name
    }


def _in_order(roots: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Everything that is reached from `roots` with its number, in the order of first mention."""
    number, todo = {}, list(reversed(roots))
    while todo:
        key = todo.pop()
        if key not in number:
            number[key] = len(number)
            if key[1]:
                todo += reversed(_definition(*key)[1])
    return number


def _hash_of_all(roots: list[tuple[str, str]]) -> bytes:
    number, digest = _in_order(roots), hashlib.sha256()
    for module, name in number:  # a definition is told by its number, never by its name
        code, references = _definition(module, name) if name else (_version(module), [])
        digest.update(code + repr([number[key] for key in references]).encode())
    return digest.digest()


@functools.cache
def _definition(module: str, name: str) -> tuple[bytes, list[tuple[str, str]]]:
    """(syntax trees without names, what they refer to) of a definition, and of what changes it."""
    opened = _open(module)
    nodes = opened.definitions[name]
    code = b"".join(opened.anonymous(node) for node in nodes)
    return code, [target for node in nodes for target in opened.references(node)]


@functools.cache
def _texts(module: str, name: str) -> set[str]:
    """The texts that stand in a definition."""
    nodes = [part for node in _open(module).definitions[name] for part in ast.walk(node)]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


class _Module:
    """A parsed module: its definitions by name, and what its imports bind."""

    def __init__(self, source: str, name: str):
        self.name, self.tree = name, ast.parse(source)
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str]] = {}  # local name → (module, definition or "")
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inside = f"{node.module}.{alias.name}"
                    bound = (inside, "") if _path(inside) else (node.module, alias.name)
                    self.imports[alias.asname or alias.name] = bound
        if name == SOURCE:  # is hashed as a whole
            return
        for node in self.tree.body:
            for name_ in dict.fromkeys(_bound(node)):
                self.definitions.setdefault(name_, []).append(node)

    def references(self, node: ast.AST | None = None) -> list[tuple[str, str]]:
        """(module, definition) of each mention in `node` (default: all), in order.

        Of a library: (dotted name, ""). Nothing is left out that occurs twice: in the syntax tree
        all mentions look alike, and only this list says which is which.
        """
        found = [self.target(part) for part in ast.walk(node or self.tree)]
        return [target for target in found if target]

    def target(self, node: ast.AST) -> tuple[str, str] | None:
        """What a name or an attribute of a module stands for, or None."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, inner = self.imports.get(node.value.id, ("", ""))
            if module and not inner and _path(module):
                return _resolved(module, node.attr)
        if isinstance(node, ast.Name):
            if node.id in self.imports:
                return _resolved(*self.imports[node.id])
            if node.id in self.definitions:
                return self.name, node.id
        return None

    def anonymous(self, node: ast.AST) -> bytes:
        """Syntax tree of `node` without docstrings, imports and names of definitions."""
        return ast.dump(_Anonymous(self).visit(copy.deepcopy(node))).encode()


class _Anonymous(ast.NodeTransformer):
    """Removes docstrings, imports and the names of definitions from a syntax tree."""

    def __init__(self, module: _Module):
        self.module = module

    def visit(self, node):
        if self.module.target(node):
            return ast.Name("_", ast.Load())
        node = super().visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            node.name in self.module.definitions
        ):
            node.name = "_"
        return node

    def visit_Import(self, node):
        return None

    def visit_ImportFrom(self, node):
        return None


def _resolved(module: str, name: str) -> tuple[str, str] | None:
    """Where `module.name` is defined, also if `module` imports it itself; None for a module."""
    if not _path(module):
        return ".".join(filter(None, (module, name))), ""
    opened = _open(module)
    if name in opened.definitions:
        return module, name
    if name in opened.imports:
        return _resolved(*opened.imports[name])
    return None


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _bound(node: ast.stmt) -> list[str]:
    """Names that a statement at the top of a module binds or changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    # the statements inside `if`, `for`, `with` and `try`
    inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt | ast.excepthandler)]
    return [name for part in inner for name in _bound(part)]


@functools.cache
def _path(module: str) -> Path | None:
    """File of a module of this project, None for any other module."""
    path = ROOT.joinpath(*module.split("."))
    if module.split(".")[0] != "utils":
        return None
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@functools.cache
def _open(module: str) -> _Module:
    return _Module(_path(module).read_text(encoding="utf-8"), module)


@functools.cache
def _version(dotted: str) -> bytes:
    """A name of a library and the version of the package that it belongs to."""
    module = dotted.split(".")[0]
    name = BY_NAME.get(module, module.replace("_", "-"))
    try:
        return f"{dotted} {importlib.metadata.version(name)}".encode()
    except importlib.metadata.PackageNotFoundError:
        return dotted.encode()  # the standard library, or a package that is not installed
