"""Bring the comments beside parameters into docstrings, so that `help` shows them too.

A notebook explains each parameter beside the signature:

    def mlp(
        sizes: Sequence[int],  # widths, input first
    ) -> nn.Sequential:  # logits come out

A comment too long for its line stands on lines of its own above the parameter. What `export.py`
writes into the
library has, in the docstring, what these comments say: sections "Parameters" and "Returns" as
numpydoc knows them.
"""

import ast
import io
import re
import textwrap
import tokenize

# a word to ruff, with its reason; what is said after a semicolon is for readers
NOQA = re.compile(r"^noqa(?:: [A-Z]+\d+(?:, [A-Z]+\d+)*)?(?: - [^;]*)?(?:; )?")
Definition = ast.FunctionDef | ast.ClassDef


class Comments:
    """The comments of a source text, by line."""

    def __init__(self, source: str):
        self.trailing: dict[int, str] = {}
        self.alone: dict[int, str] = {}
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                kind = self.alone if token.line[: token.start[1]].strip() == "" else self.trailing
                said = NOQA.sub("", token.string.lstrip("# ")).strip()
                if said:
                    kind[token.start[0]] = said

    def of(self, first: int, last: int) -> str:
        """What is said of the thing on these lines: behind it, or on the lines right above."""
        if last in self.trailing:
            return self.trailing[last]
        above: list[str] = []
        while first - 1 - len(above) in self.alone:
            above.insert(0, self.alone[first - 1 - len(above)])
        return " ".join(above)


def signature_end(node: ast.FunctionDef, source_lines: list[str]) -> int:
    """The line on which a function's signature ends."""
    last = max(
        [node.lineno, *(n.end_lineno for n in ast.walk(node.args) if hasattr(n, "end_lineno"))]
    )
    if node.returns is not None:
        return node.returns.end_lineno
    while not source_lines[last - 1].split("#")[0].rstrip().endswith(":"):
        last += 1
    return last


def arguments(node: ast.FunctionDef) -> list[tuple[ast.arg, int]]:
    """The parameters of a function with the last line of each, less `self` and `cls`."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(plain) - len(spec.defaults)) + list(spec.defaults)
    both = [
        *zip(plain, defaults, strict=True),
        *zip(spec.kwonlyargs, spec.kw_defaults, strict=True),
    ]
    both += [(star, None) for star in (spec.vararg, spec.kwarg) if star]
    return [
        (arg, (default or arg).end_lineno)
        for arg, default in both
        if arg.arg not in ("self", "cls")
    ]


def indented(text: str) -> str:
    """A text as the body of an entry, in lines that stay short inside a method's docstring."""
    return textwrap.fill(text, 88, initial_indent="    ", subsequent_indent="    ")


def entry(name: str, annotation: ast.expr | None, text: str) -> str:
    """One entry of a section."""
    kind = f" : {ast.unparse(annotation)}" if annotation is not None else ""
    return f"{name}{kind}\n{indented(text)}"


Explained = tuple[str, ast.expr | None, str]  # a name, its type, what is said of it


def parameters(node: ast.FunctionDef, comments: Comments) -> list[Explained]:
    """Each parameter that has a comment and a line to itself."""
    found = arguments(node)
    starts = [arg.lineno for arg, _ in found]
    return [
        (arg.arg, arg.annotation, text)
        for arg, last in found
        if starts.count(arg.lineno) == 1
        and arg.lineno > node.lineno
        and (text := comments.of(arg.lineno, last))
    ]


def fields(node: ast.ClassDef, comments: Comments) -> list[Explained]:
    """Each field of a dataclass that has a comment."""
    return [
        (field.target.id, field.annotation, text)
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and (text := comments.of(field.lineno, field.end_lineno))
    ]


def returned(node: ast.FunctionDef, comments: Comments, lines: list[str]) -> str:
    """What a function returns, where a comment behind its signature says so."""
    end = signature_end(node, lines)
    if end == node.lineno or any(last == end for _, last in arguments(node)):
        return ""
    return comments.trailing.get(end, "")


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated as a dataclass."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    """The method that makes an object of a class, where it is written out."""
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    return next((n for n in methods if n.name == "__init__"), None)


def made_with(node: ast.ClassDef, comments: Comments) -> list[Explained]:
    """What an object of a class is made with."""
    made = constructor(node)
    if made is not None:
        return parameters(made, comments)
    return fields(node, comments) if is_dataclass(node) else []


def sections(node: Definition, comments: Comments, lines: list[str]) -> str:
    """The sections to add to a docstring; empty where there is nothing to add."""
    if isinstance(node, ast.ClassDef):
        known, gives = made_with(node, comments), ""
    else:
        known, gives = parameters(node, comments), returned(node, comments, lines)
    parts = []
    if known:
        parts.append("Parameters\n----------\n" + "\n".join(entry(*one) for one in known))
    if gives:
        kind = ast.unparse(node.returns) if node.returns is not None else "returned"
        parts.append(f"Returns\n-------\n{kind}\n{indented(gives)}")
    return "\n\n".join(parts)


def is_public(node: Definition) -> bool:
    """Whether somebody may ask for help on it."""
    return not node.name.startswith("_") or node.name == "__call__"


def docstring_of(node: ast.AST) -> ast.Expr | None:
    """The statement that is a definition's docstring."""
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return first
    return None


def quoted(text: str, indent: str) -> str:
    """A docstring with its quotes, indented."""
    body = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'{indent}"""' + f"\n{indent}".join(body.split("\n")).rstrip() + f'\n{indent}"""'


def with_parameters(source: str) -> str:
    """The same module, with docstrings that say what the comments beside parameters say."""
    comments, lines = Comments(source), source.split("\n")
    changes = []
    for node in ast.walk(ast.parse(source)):
        if (
            not isinstance(node, Definition)
            or not is_public(node)
            or (said := docstring_of(node)) is None
        ):
            continue
        if added := sections(node, comments, lines):
            text = ast.get_docstring(node) + "\n\n" + added
            changes.append((said.lineno, said.end_lineno, quoted(text, " " * said.col_offset)))
    for first, last, text in sorted(changes, reverse=True):
        lines[first - 1 : last] = [line.rstrip() for line in text.split("\n")]
    return "\n".join(lines)


def without_parameters(docstring: str) -> str:
    """A docstring of the library as its author wrote it."""
    return re.split(r"\n\n(?:Parameters\n-{10}|Returns\n-{7})\n", docstring)[0]
