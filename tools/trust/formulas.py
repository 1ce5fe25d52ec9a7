"""Mutations of a module's formulas, one at a time: operators, signs, constants, comparisons, transposes, terms, arguments."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.GtE, ast.LtE),
    ast.LtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.LtE, ast.GtE),
    ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
# Names of functions and methods that stand for their opposite number.
_PAIRS = [("sum", "mean"), ("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("any", "all"), ("sin", "cos")]
_PAIRS += [("floor", "ceil"), ("amin", "amax"), ("triu", "tril"), ("log", "log1p"), ("exp", "expm1"), ("std", "var")]
_NAMES = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}}
# Calls of one array that may be left out.
_DROPPED = {"sqrt", "square", "abs", "exp", "log", "log1p", "expm1", "swapaxes", "transpose", "clip", "clamp", "maximum"}
_DROPPED |= {"minimum", "round", "floor", "ceil", "detach", "clamp_min", "softplus", "tanh", "sigmoid", "softmax", "flip"}
_MODULES = {"np", "numpy", "torch", "math", "functional", "linalg", "F"}
# What is no formula: names of keyword arguments, and calls.
_KEYWORDS = {"dtype", "device", "maxsize", "strict", "kind", "optimize", "exist_ok", "indent", "flush", "encoding"}
_CALLS = {"print", "isinstance", "getattr", "hasattr", "super", "property", "cast", "TypeVar", "errstate", "field"}


@dataclass(frozen=True)
class Mutant:
    """A module with one formula broken.

    Attributes:
        path: of the module, from the root of the repository.
        function: its qualified name; empty for the module's constants.
        line: 1-based.
        was: the line (or lines, joined) without indentation.
        now: what stands there instead.
        source: of the whole module.
    """

    path: str
    function: str
    line: int
    was: str
    now: str
    source: str

    @property
    def key(self) -> str:
        """What names it in the list of equivalents: no line numbers, which move."""
        return f"{self.path}: {self.was} => {self.now}"


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    found: dict[str, Mutant] = {}
    for function, node, replacement in _in_body(tree.body, ""):
        mutant = _spliced(path, source, function, node, replacement)
        if mutant is not None:
            found.setdefault(mutant.source, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def is_new(mutant: Mutant, source: str) -> bool:
    """Whether it is a program, and another one than the source: parentheses alone change nothing."""
    try:
        return ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def _in_body(body: list[ast.stmt], scope: str) -> Iterator[tuple[str, ast.AST, str]]:
    """(function, node, text in its place) in module and class bodies."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _in_body(statement.body, f"{scope}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef):
            function = scope + statement.name
            if function.split(".")[-1] in ("__repr__", "__str__"):
                continue
            for default in [*statement.args.defaults, *statement.args.kw_defaults]:
                yield from ((function, *site) for site in _sites(default))
            yield from ((function, *site) for inner in statement.body for site in _sites(inner))
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.annotation) == "TypeAlias":
                continue
            if any(isinstance(inner, ast.Call) for inner in ast.walk(statement.value)):
                continue  # Made at import; others may hold it already.
            yield from ((scope.removesuffix("."), *site) for site in _sites(statement.value))


def _sites(node: ast.AST | None) -> Iterator[tuple[ast.AST, str]]:
    """(node, text in its place), of a node and all below it that is part of a formula."""
    if node is None or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Global):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.If) and all(isinstance(inner, ast.Raise) for inner in node.body):
        yield from _sites(node.test)
        yield from (site for inner in node.orelse for site in _sites(inner))
        return
    yield from ((node, text) for text in _replacements(node))
    if isinstance(node, ast.Call) and _called(node) in _CALLS:
        return
    if isinstance(node, ast.AnnAssign):
        yield from _sites(node.value)
        return
    if isinstance(node, ast.FunctionDef):
        yield from (site for inner in [*node.args.defaults, *node.args.kw_defaults, *node.body] for site in _sites(inner))
        return
    shape = isinstance(node, ast.Call) and _called(node) in ("reshape", "view")
    for child in ast.iter_child_nodes(node):
        # A shape's -1 is no number.
        if shape and isinstance(child, ast.UnaryOp):
            continue
        if not (isinstance(child, ast.keyword) and child.arg in _KEYWORDS):
            yield from _sites(child)


def _replacements(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.BinOp):
        left, right = f"({ast.unparse(node.left)})", f"({ast.unparse(node.right)})"
        operator = _OPERATORS.get(type(node.op))
        if _is_text(node):
            return
        if operator is not None:
            yield f"({left} {_symbol(operator)} {right})"
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.Pow):
            yield left
        if isinstance(node.op, ast.Add | ast.Mult):
            yield right
        if isinstance(node.op, ast.MatMult):
            yield f"({right} @ {left})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield str(not node.value)
        elif isinstance(node.value, int):
            yield str(node.value + 1)
        elif isinstance(node.value, float):
            yield repr(node.value * 2 if node.value else 1.0)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _COMPARISONS[type(node.ops[0])]:
            yield ast.unparse(ast.Compare(node.left, [other()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield f"({word.join(f'({ast.unparse(value)})' for value in node.values)})"
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse))})"
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield ast.unparse(node.value)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        yield f"{ast.unparse(node.target)} {_symbol(_OPERATORS[type(node.op)])}= {ast.unparse(node.value)}"
        yield "pass"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "pass"
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[str]:
    name, plain = _called(node), [arg for arg in node.args if not isinstance(arg, ast.Starred)]
    if name in _CALLS or len(plain) < len(node.args):
        return
    of_module = isinstance(node.func, ast.Name) or _is_module(node.func)
    if name in _NAMES:
        other = ast.parse(ast.unparse(node.func), mode="eval").body
        if isinstance(other, ast.Attribute):
            other.attr = _NAMES[name]
            yield ast.unparse(ast.Call(other, node.args, node.keywords))
        elif name in ("min", "max", "any", "all"):
            yield ast.unparse(ast.Call(ast.Name(_NAMES[name]), node.args, node.keywords))
    if name in _DROPPED:
        if of_module and plain:
            yield f"({ast.unparse(plain[0])})"
        elif isinstance(node.func, ast.Attribute) and not of_module:
            yield f"({ast.unparse(node.func.value)})"
    if len(plain) >= 2 and name not in ("swapaxes", "maximum", "minimum", "max", "min", "transpose", "range", "add"):
        a, b = (1, 2) if name == "where" and len(plain) == 3 else (0, 1)
        if ast.unparse(plain[a]) != ast.unparse(plain[b]) and not any(isinstance(plain[i], ast.Constant) for i in (a, b)):
            swapped = list(node.args)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            yield ast.unparse(ast.Call(node.func, swapped, node.keywords))


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _is_module(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and ast.unparse(function.value).split(".")[-1] in _MODULES


def _symbol(operator: type[ast.operator]) -> str:
    return ast.unparse(ast.BinOp(ast.Name("a"), operator(), ast.Name("b"))).split()[1]


def _spliced(path: str, source: str, function: str, node: ast.AST, text: str) -> Mutant | None:
    """The mutant with ``text`` in the node's place; None where that is the same text."""
    lines = source.encode().splitlines(keepends=True)
    start, end = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
    head, tail = lines[start][: node.col_offset], lines[end][node.end_col_offset :]  # type: ignore[attr-defined]
    changed = head + text.encode() + tail
    mutated = b"".join([*lines[:start], changed, *lines[end + 1 :]]).decode()
    if mutated == source:
        return None
    was = " ".join(line.decode().strip() for line in lines[start : end + 1])
    return Mutant(path, function, start + 1, was, changed.decode().strip(), mutated)
