"""Recognises plain templates: what rendering one costs grows no faster than the values that it shows.

Jinja has loops within loops, macros that call each other and operations whose result has any size. A plain template has
none of these, so it needs no limit on time. Everything that is not listed here makes a template not plain.
"""

from __future__ import annotations

from collections.abc import Set

from jinja2 import nodes

# With these bounds, the dearest plain template takes about a second for the largest request that the API admits.
MAX_NODES = 1_000
MAX_OPERATIONS = 50
MAX_SEPARATOR = 8

# What a loop may go over. Going over the characters of a request or of an artifact could take millions of rounds.
LISTS = frozenset({"earlier", "remarks", "sections", "brand", "project"})
RECORDS = frozenset({"brand", "project"})
INNER_LISTS = frozenset({"questions"})
# Short values, with which each round of a loop may compare.
SHORT = frozenset({"loop", "stage", "today"})
FIXED_TESTS = frozenset(
    {"boolean", "defined", "false", "iterable", "mapping", "none", "number", "sequence", "string", "true", "undefined"}
)
LINEAR_FILTERS = frozenset(
    {"capitalize", "count", "d", "default", "first", "items", "last", "length", "lower", "trim", "upper"}
)
GROWING_FILTERS = frozenset({"indent", "join", "replace"})
OPERATIONS = (nodes.Filter, nodes.Compare)
TEXT = (nodes.Output, nodes.TemplateData, nodes.Const)
LOGIC = (nodes.If, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not)


def is_plain(tree: nodes.Template) -> bool:
    """Return whether a template is plain."""
    if sum(1 for _ in tree.find_all(nodes.Node)) > MAX_NODES:
        return False
    if sum(1 for _ in tree.find_all(OPERATIONS)) > MAX_OPERATIONS:
        return False
    return all(_is_plain(node, None) for node in tree.body)


def _is_plain(node: nodes.Node, looped: Set[str] | None) -> bool:
    """Return whether a node is plain within a loop over ``looped``, None outside of loops."""
    if isinstance(node, nodes.For):
        return _is_plain_loop(node, looped)
    if isinstance(node, nodes.Assign):
        return looped is None and _is_plain_assignment(node)
    if isinstance(node, nodes.Filter):
        return _is_plain_filter(node) and _is_cheap(node, looped)
    if isinstance(node, nodes.Test):
        return node.name in FIXED_TESTS and not _has_arguments(node) and _is_plain(node.node, looped)
    if isinstance(node, nodes.Compare):
        operands = (node.expr, *(operand.expr for operand in node.ops))
        return all(_is_plain(operand, looped) for operand in operands) and _is_cheap(node, looped)
    if isinstance(node, TEXT + LOGIC):
        return all(_is_plain(child, looped) for child in node.iter_child_nodes())
    return _root(node) is not None


def _is_plain_loop(loop: nodes.For, looped: Set[str] | None) -> bool:
    names = (loop.target, *loop.target.find_all(nodes.Name))
    targets = frozenset(name.name for name in names if isinstance(name, nodes.Name))
    parts = (*loop.body, *([loop.test] if loop.test else []))
    return (
        not loop.recursive
        and not targets & SHORT
        and _is_short(loop.iter, looped)
        and all(_is_plain(part, targets) for part in parts)
        and all(_is_plain(part, looped) for part in loop.else_)
    )


def _is_plain_assignment(node: nodes.Assign) -> bool:
    # Growing filters would add up: each assignment could make a value several times as long as the one before.
    values = (node.node, *node.node.find_all(nodes.Filter))
    return (
        isinstance(node.target, nodes.Name)
        and node.target.name not in LISTS | SHORT
        and not any(isinstance(value, nodes.Filter) and value.name in GROWING_FILTERS for value in values)
        and _is_plain(node.node, None)
    )


def _is_short(values: nodes.Node, looped: Set[str] | None) -> bool:
    """Return whether a loop's values are few: a list of the run, or the part of it that the loop around it is at."""
    if isinstance(values, nodes.Filter) and values.name == "items" and not _has_arguments(values) and values.node:
        values = values.node
    if looped is None:
        return _is_one_of(values, LISTS) or (isinstance(values, nodes.Getattr) and _is_one_of(values.node, RECORDS))
    # Of the innermost loop only: otherwise the rounds would be the product of two lengths and not their sum.
    return _is_one_of(values, looped) or (
        isinstance(values, nodes.Getattr) and values.attr in INNER_LISTS and _is_one_of(values.node, looped)
    )


def _is_plain_filter(node: nodes.Filter) -> bool:
    operand = node.node
    if operand is None or node.kwargs or node.dyn_args or node.dyn_kwargs or not _is_plain(operand, None):
        return False
    if node.name in ("default", "d"):
        return all(_is_plain(argument, None) for argument in node.args)
    values = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    if len(values) != len(node.args):
        return False
    if node.name in LINEAR_FILTERS:
        return all(not isinstance(value, str) or len(value) <= MAX_SEPARATOR for value in values)
    # Once in a chain: each may make a text several times as long.
    return node.name in GROWING_FILTERS and _grows_little(node.name, values) and _root(operand) is not None


def _grows_little(name: str, values: list[object]) -> bool:
    if name == "replace":
        match values:
            case [str(old), str(new)]:
                return len(old) > 0 and len(new) <= MAX_SEPARATOR
        return False
    return all(
        len(value) <= MAX_SEPARATOR if isinstance(value, str) else isinstance(value, int) and value <= MAX_SEPARATOR
        for value in values
    )


def _is_cheap(node: nodes.Filter | nodes.Compare, looped: Set[str] | None) -> bool:
    """Return whether, within a loop, an operation reads only what the loop is at, and not a whole value each round."""
    return looped is None or all(name.name in looped | SHORT for name in node.find_all(nodes.Name))


def _has_arguments(node: nodes.Filter | nodes.Test) -> bool:
    return bool(node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)


def _root(node: nodes.Node) -> str | None:
    """Return the variable to which ``a``, ``a.b`` and ``a["b"]`` belong, None for any other expression."""
    while isinstance(node, nodes.Getattr) or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const)):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _is_one_of(node: nodes.Node, names: Set[str]) -> bool:
    return isinstance(node, nodes.Name) and node.name in names
