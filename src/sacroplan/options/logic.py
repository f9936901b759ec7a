"""Conditions of rules: a small expression language in three-valued (Kleene) logic.

``resection == "total" and iliolumbar == "none"``; names are facts, limits come from evidence rows as
``evidence("R-05.prognosis")``. A comparison with an unknown fact is unknown; ``False and unknown`` is
False, ``True or unknown`` is True.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sacroplan import evidence
from sacroplan.errors import EvidenceError
from sacroplan.options.facts import DOMAINS, Value

Truth = bool | None
Test = Callable[[Mapping[str, Value]], Truth]

_ORDER: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A parsed condition. ``names`` : facts it asks for. ``limits`` : fact to the numbers it is held to."""

    text: str
    names: tuple[str, ...]
    limits: Mapping[str, tuple[float, ...]]
    test: Test

    def __call__(self, facts: Mapping[str, Value]) -> Truth:
        """True, False, or None where the known facts do not settle it."""
        return self.test(facts)


def conjunction(values: tuple[Truth, ...]) -> Truth:
    """Kleene's and."""
    if any(v is False for v in values):
        return False
    return None if any(v is None for v in values) else True


def disjunction(values: tuple[Truth, ...]) -> Truth:
    """Kleene's or."""
    if any(v is True for v in values):
        return True
    return None if any(v is None for v in values) else False


def parse(text: str, where: str) -> Condition:
    """Compile a condition; raises :class:`EvidenceError` naming ``where`` on anything not allowed."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise EvidenceError(
            f"{where}: the condition {text!r} cannot be read: {error.msg}."
        ) from error
    names: list[str] = []
    limits: dict[str, list[float]] = {}
    test = _compile(tree, where, names, limits)
    return Condition(
        text,
        tuple(dict.fromkeys(names)),
        {n: tuple(sorted(set(v))) for n, v in limits.items()},
        test,
    )


def _compile(node: ast.expr, where: str, names: list[str], limits: dict[str, list[float]]) -> Test:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        constant = node.value
        return lambda _facts: constant
    if isinstance(node, ast.BoolOp):
        parts = [_compile(v, where, names, limits) for v in node.values]
        settled = isinstance(node.op, ast.Or)

        def joined(facts: Mapping[str, Value]) -> Truth:
            # Kleene's and (or) is settled by the first part that is False (True).
            unknown = False
            for p in parts:
                value = p(facts)
                if value is settled:
                    return settled
                unknown = unknown or value is None
            return None if unknown else not settled

        return joined
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _compile(node.operand, where, names, limits)

        def opposite(facts: Mapping[str, Value]) -> Truth:
            value = inner(facts)
            return None if value is None else not value

        return opposite
    if isinstance(node, ast.Name):
        name = _fact(node, where, names)
        if DOMAINS[name].kind != "yes/no":
            raise EvidenceError(f"{where}: {name} is no yes/no fact; compare it with a value.")
        return lambda facts: facts[name]  # type: ignore[return-value]
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.left, ast.Name):
        return _comparison(node, where, names, limits)
    raise EvidenceError(f"{where}: {ast.unparse(node)!r} is not allowed in a condition.")


def _comparison(
    node: ast.Compare, where: str, names: list[str], limits: dict[str, list[float]]
) -> Test:
    assert isinstance(node.left, ast.Name)
    name = _fact(node.left, where, names)
    domain = DOMAINS[name]
    op, right = node.ops[0], node.comparators[0]
    if domain.kind == "choice":
        if isinstance(right, ast.Tuple):
            wanted = tuple(_text(e, where) for e in right.elts)
        else:
            wanted = (_text(right, where),)
        foreign = [w for w in wanted if w not in domain.choices]
        if foreign:
            raise EvidenceError(f"{where}: {name} is never {foreign[0]!r}.")
        if not isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
            raise EvidenceError(f"{where}: {name} can only be compared by == and in.")
        inside = isinstance(op, (ast.Eq, ast.In))
        return lambda facts: None if facts[name] is None else (facts[name] in wanted) == inside
    if domain.kind == "number" and type(op) in _ORDER:
        limit = _limit(right, where)
        limits.setdefault(name, []).append(limit)
        compare = _ORDER[type(op)]

        def against(facts: Mapping[str, Value]) -> Truth:
            value = facts[name]
            return None if value is None else compare(float(value), limit)

        return against
    raise EvidenceError(f"{where}: {ast.unparse(node)!r} does not fit the fact {name}.")


def _fact(node: ast.Name, where: str, names: list[str]) -> str:
    if node.id not in DOMAINS:
        raise EvidenceError(f"{where}: there is no fact {node.id!r}.")
    names.append(node.id)
    return node.id


def _text(node: ast.expr, where: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise EvidenceError(f"{where}: {ast.unparse(node)!r} should be a word in quotes.")


def _limit(node: ast.expr, where: str) -> float:
    """A number: a count such as 0 stands for itself, every other limit is an evidence quantity."""
    if (
        isinstance(node, ast.Constant)
        and node.value in (0, 1, 5)
        and not isinstance(node.value, bool)
    ):
        return float(node.value)  # type: ignore[arg-type]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "evidence"
        and len(node.args) == 1
    ):
        row, _, name = _text(node.args[0], where).partition(".")
        return evidence.value(row, name or "value")
    raise EvidenceError(f'{where}: a limit is written evidence("ROW.quantity").')
