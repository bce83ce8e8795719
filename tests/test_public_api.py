"""The public API is what docs/reference/api.md lists, and all of it says what it is.

After a wanted change: `python tests/test_public_api.py --update` writes the listing again (without
`--update` it prints it), and CHANGELOG.md gets a line.
"""

import ast
import importlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
MARK = "<!-- From here on written by: python tests/test_public_api.py --update -->\n"
#: What users import from; lowest first. A room's public names are its `__all__`.
ROOMS = (
    "errors",
    "packages",
    "hosts",
    "qmp",
    "builds",
    "guests",
    "trace",
    "vm",
    "outcome",
    "migration",
    "downtime",
    "matrix",
)
WIDTH = 100
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public(module: types.ModuleType) -> dict[str, Any]:
    """The public names of a room, in order, with what they stand for."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, of in vars(module).items() if inspect.isclass(of)]
    return {name: getattr(module, name) for name in names}


def definition(of: Any) -> ast.ClassDef | Function:
    """The syntax tree of a class or function, from its source."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    return node


def is_method(member: ast.stmt) -> bool:
    """Whether a class shows this as a method or property of its own."""
    return isinstance(member, Function) and not member.name.startswith("_")


def summary(node: ast.ClassDef | Function) -> str:
    """The first sentence of a docstring, or what there is of it on its first lines."""
    return first_sentence(ast.get_docstring(node) or "")


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    first, stop, _ = paragraph.partition(". ")
    return first + stop.strip()


def lines_of(name: str, of: Any) -> Iterator[str]:
    """One public name as it would stand in a stub."""
    if inspect.isclass(of):
        yield from class_lines(name, of)
    elif inspect.isfunction(of):
        node = definition(of)
        assert isinstance(node, Function)
        yield from function_lines(node)
    elif isinstance(of, types.UnionType):
        yield f"{name} = {' | '.join(member.__name__ for member in of.__args__)}"
    else:
        yield f"{name}: {type(of).__name__}"
        if text := constant_text(name):
            yield f'"""{text}"""'


def constant_text(name: str) -> str:
    """The first sentence of the text below a constant, in the module that assigns it."""
    for module in [of for path, of in sys.modules.items() if path.startswith("qmptests.")]:
        if not hasattr(module, name):
            continue
        body = ast.parse(inspect.getsource(module)).body
        for node, after in pairwise(body):
            if (
                isinstance(node, ast.Assign | ast.AnnAssign)
                and ast.unparse(node).startswith((f"{name} ", f"{name}:"))
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                return first_sentence(inspect.cleandoc(str(after.value.value)))
    return ""


def class_lines(name: str, of: type) -> Iterator[str]:
    node = definition(of)
    assert isinstance(node, ast.ClassDef)
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    yield f"class {name}({bases}):" if bases else f"class {name}:"
    yield f'    """{summary(node)}"""'
    for member in node.body:
        if isinstance(member, ast.AnnAssign | ast.Assign):
            target = member.target if isinstance(member, ast.AnnAssign) else member.targets[0]
            if not ast.unparse(target).startswith("_"):
                yield f"    {ast.unparse(member)}"
        elif isinstance(member, Function) and member.name == "__init__":
            yield from indented(function_lines(member))
        elif is_method(member):
            assert isinstance(member, Function)
            yield from indented(function_lines(member))


def indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def function_lines(node: Function) -> Iterator[str]:
    yield from (f"@{ast.unparse(decorator)}" for decorator in node.decorator_list)
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{word} {node.name}({ast.unparse(node.args)}){returns}:"
    body = summary(node)
    end = f'    """{body}"""' if body else "    ..."
    if len(line) + 4 <= WIDTH:
        yield line
    else:
        yield f"{word} {node.name}("
        yield from (f"    {parameter}," for parameter in parameters(node.args))
        yield f"){returns}:"
    yield end


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter by itself; the text is cut at the commas that stand in no bracket."""
    depth, piece = 0, ""
    for character in ast.unparse(arguments):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            yield piece.strip()
            piece = ""
        else:
            piece += character
    yield piece.strip()


def listing() -> str:
    """The part of the page that is generated."""
    parts = []
    for room in ROOMS:
        module = importlib.import_module(f"qmptests.{room}")
        first = inspect.cleandoc(module.__doc__ or "").partition("\n")[0]
        names = (line for item in public(module).items() for line in (*lines_of(*item), ""))
        code = "\n".join(names).rstrip()
        parts.append(f"\n## `qmptests.{room}`\n\n{first}\n\n```python\n{code}\n```\n")
    return "".join(parts)


def undocumented() -> Iterator[str]:
    """Public classes, functions, methods and properties without a docstring."""
    for room in ROOMS:
        for name, of in public(importlib.import_module(f"qmptests.{room}")).items():
            if not inspect.isclass(of) and not inspect.isfunction(of):
                continue
            node = definition(of)
            members = [node, *(m for m in getattr(node, "body", []) if is_method(m))]
            for member in members if isinstance(node, ast.ClassDef) else [node]:
                if not ast.get_docstring(member):
                    own = "" if member is node else f".{member.name}"
                    yield f"qmptests.{room}.{name}{own}"


def test_the_public_api_is_the_one_that_is_listed() -> None:
    listed = PAGE.read_text().partition(MARK)[2]
    assert listed == listing(), "after a wanted change: python tests/test_public_api.py --update"


def test_everything_public_says_what_it_is() -> None:
    assert not list(undocumented())


def test_the_listing_is_python() -> None:
    for block in listing().split("```python\n")[1:]:
        ast.parse(block.partition("```")[0])


if __name__ == "__main__":
    if "--update" in sys.argv:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + listing())
    else:
        print(listing(), end="")
