"""The grammar of shell scripts: tree-sitter's, made for editors, which reads what is wrong or unfinished too."""

from functools import cache
from typing import TYPE_CHECKING

from ingle_plugins.guard.words import MARKS

if TYPE_CHECKING:
    from tree_sitter import Parser, Tree


@cache
def parser() -> "Parser":
    """Return the one parser; made late, because a daemon without this plugin should not load it."""
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def parse(text: str) -> "Tree":
    """Return a script's syntax tree."""
    return parser().parse(MARKS.sub("?", text).encode())


def goes_on(code: str) -> bool:
    """Return whether a statement goes on behind the end of the text: a quote, a loop or a here-document is open."""
    root = parse(code + "\n").root_node
    if not root.has_error:
        return False
    end = len(code.encode())
    pending = [root]
    while pending:
        node = pending.pop()
        if node.is_missing or (node.type == "ERROR" and node.end_byte >= end):
            return True
        pending += [child for child in node.children if child.has_error or child.is_missing]
    return False
