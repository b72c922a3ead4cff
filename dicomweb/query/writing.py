"""A tree as text of the language, and as a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable

from dicomweb.languages import N_, counted, gettext
from dicomweb.query.fields import unquoted
from dicomweb.query.numbers import relative_steps
from dicomweb.query.tree import And, Exists, Leaf, Meta, Missing, Node, Not, Or, Range, Term, Test, Text, Words

COMPARISONS = ("<=", ">=", "<", ">", "=")
RESERVED = frozenset("AND OR NOT".split())

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", '"': '\\"', "\\": "\\\\"}
_QUOTED = frozenset('()"\\')
_META_SUBJECTS = {"batch": N_("the batch"), "status": N_("the status"), "label": N_("a label"), "added": N_("it"), "id": N_("the number")}
_OR = N_("%(said)s or %(more)s")
_NUMBERS = {"<=": N_("at most %(value)s"), ">=": N_("at least %(value)s"), "<": N_("less than %(value)s"), ">": N_("more than %(value)s")}
_MOMENTS = {"<=": N_("%(value)s or earlier"), ">=": N_("%(value)s or later"), "<": N_("before %(value)s"), ">": N_("after %(value)s")}
# What means something in a word that stands alone.
_SIGNS = frozenset("*?[:<>=")


def unparse(node: Node) -> str:
    """Give the canonical text of a query: ``parse(unparse(node)) == node`` for every tree that ``parse`` gives.

    Raises ValueError when a text has what no query can have: NUL or half of a surrogate pair.
    """
    if isinstance(node, And):
        return " ".join(_operand(operand) for operand in node.operands)
    return _alternatives(node) if isinstance(node, Or) else _operand(node)


def _operand(node: Node) -> str:
    """Write a node so that it can stand beside others."""
    if isinstance(node, Not):
        return "-" + _operand(node.operand)
    if isinstance(node, And):
        return f"({unparse(node)})" if node.operands else "*"
    if isinstance(node, Or):
        lists = _lists(node)
        return f"({_alternatives(node)})" if len(lists) > 1 else _list(lists[0])
    if isinstance(node, Words):
        return write_words(node.text)
    return f"{_name(node)}:{write_test(node.test)}"


def _alternatives(node: Or) -> str:
    return " OR ".join(_list(nodes) if len(nodes) > 1 else unparse(nodes[0]) or "*" for nodes in _lists(node))


def _lists(node: Or) -> list[list[Node]]:
    """Put neighbours together that ask the same element."""
    lists: list[list[Node]] = []
    for operand in node.operands:
        if lists and isinstance(operand, Term | Meta) and _subject(operand) == _subject(lists[-1][-1]):
            lists[-1].append(operand)
        else:
            lists.append([operand])
    return lists


def _list(nodes: list[Node]) -> str:
    leaves = [node for node in nodes if isinstance(node, Term | Meta)]
    return f"{_name(leaves[0])}:({' '.join(write_test(leaf.test) for leaf in leaves)})"


def _subject(node: Node) -> object:
    return node.field if isinstance(node, Term) else node.name if isinstance(node, Meta) else None


def _name(leaf: Term | Meta) -> str:
    return leaf.field.name if isinstance(leaf, Term) else leaf.name


def write_test(test: Test) -> str:
    """Write what stands behind the colon."""
    if isinstance(test, Range):
        return test.shown
    if isinstance(test, Text):
        return _write_pattern(test.pattern) if test.wildcards else write_value(test.pattern)
    return "exists" if isinstance(test, Exists) else "missing"


def write_value(text: str) -> str:
    """Write a value that stands for itself, in quotes where it needs them."""
    written = "".join(f"\\{c}" if c in "*?" else _escaped(c) for c in text)
    return f'"{written}"' if written != text or _needs_quotes(text) else text


def write_words(text: str) -> str:
    """Write free text."""
    written = "".join(map(_escaped, text))
    plain = written == text and not _needs_quotes(text) and _SIGNS.isdisjoint(text) and not text.startswith("-")
    return text if plain else f'"{written}"'


def _write_pattern(pattern: str) -> str:
    written: list[str] = []
    at = 0
    while at < len(pattern):
        escape = pattern[at : at + 2] if pattern[at] == "\\" else ""
        taken = escape if escape[1:] in ("*", "?", "\\") else ""
        written.append(taken or (pattern[at] if pattern[at] in "*?" else _escaped(pattern[at])))
        at += len(taken) or 1
    text = "".join(written)
    return f'"{text}"' if _needs_quotes(text) else text


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character == "\0" or "\ud800" <= character <= "\udfff":
        raise ValueError("a query cannot have NUL or half of a surrogate pair")
    return f"\\x{ord(character):02x}" if character < " " or "\x7f" <= character < "\xa0" else character


def _needs_quotes(text: str) -> bool:
    return (
        not text
        or not _QUOTED.isdisjoint(text)
        or ".." in text
        or text.startswith(COMPARISONS)
        or text.endswith((".", ","))
        or any(character.isspace() or not character.isprintable() for character in text)
        or text.casefold() in ("exists", "missing")
        or text.upper() in RESERVED
    )


def sentence(node: Node) -> str:
    """Say a query as a sentence, ``Modality is CT and SliceThickness is at most 1.5``, in the language that is spoken."""
    return _say(node)


def _say(node: Node) -> str:
    if isinstance(node, And):
        return _joined(N_("%(said)s and %(more)s"), map(_say_within, node.operands)) or gettext("everything")
    if isinstance(node, Or):
        lists = _lists(node)
        return _say_list(lists[0]) if len(lists) == 1 else gettext("either %(said)s", said=_joined(_OR, map(_say_list, lists)))
    if isinstance(node, Not):
        return gettext("not (%(said)s)", said=_say(node.operand)) if isinstance(node.operand, And | Or | Not) else _say_leaf(node.operand, True)
    return _say_leaf(node, False)


def _joined(link: str, parts: Iterable[str]) -> str:
    said, *others = [*parts] or [""]
    for more in others:
        said = gettext(link, said=said, more=more)
    return said


def _say_within(node: Node) -> str:
    return f"({_say(node)})" if (isinstance(node, Or) and len(_lists(node)) > 1) or isinstance(node, And) else _say(node)


def _say_list(nodes: list[Node]) -> str:
    leaves = [node for node in nodes if isinstance(node, Term | Meta)]
    if len(nodes) == 1 or not leaves:
        return _say_within(nodes[0])
    return _joined(_OR, [_say_leaf(leaves[0], False), *(_predicate(leaf, False)[1] for leaf in leaves[1:])])


def _say_leaf(leaf: Leaf, negated: bool) -> str:
    if isinstance(leaf, Words):
        said = N_("no text contains “%(words)s”") if negated else N_("some text contains “%(words)s”")
        return gettext(said, words=_visible(leaf.text))
    subject = _say_field(leaf) if isinstance(leaf, Term) else gettext(_META_SUBJECTS[leaf.name])
    return f"{subject} {_predicate(leaf, negated)[0]}"


def _say_field(term: Term) -> str:
    field = term.field
    name = field.name
    last = field.path.rpartition("/")[2]
    if "[" in last and field.keyword:
        name += f" ({field.keyword})"
    return gettext("any %(name)s at any depth", name=name.removeprefix("**.")) if field.any_depth else name


def _predicate(leaf: Term | Meta, negated: bool) -> tuple[str, str]:
    """Say what a leaf asks of its subject, and the same as it goes on after another one: ``is CT`` ``or MR``."""
    test = leaf.test
    if isinstance(test, Exists):
        return gettext("is not present") if negated else gettext("is present"), gettext("present")
    if isinstance(test, Missing):
        return gettext("is not missing") if negated else gettext("is missing"), gettext("missing")
    if isinstance(test, Text) and test.wildcards:
        said = gettext(N_("does not match %(value)s") if negated else N_("matches %(value)s"), value=_say_value(test.pattern))
        return said, said
    if isinstance(leaf, Meta) and leaf.name == "added" and isinstance(test, Range):
        when = _say_range(test.shown, of_time=True)
        return gettext(N_("was not added %(when)s") if negated else N_("was added %(when)s"), when=when), when
    if isinstance(test, Range):
        value = _say_range(test.shown, isinstance(leaf, Term) and leaf.field.vr in ("DA", "DT", "TM"))
    else:
        value = _say_value(test.pattern) if test.pattern else gettext("empty")
    return gettext(N_("is not %(value)s") if negated else N_("is %(value)s"), value=value), value


def _say_range(shown: str, of_time: bool) -> str:
    comparison = next((sign for sign in COMPARISONS if shown.startswith(sign)), "")
    low, high = split_range(shown[len(comparison) :])
    texts = _MOMENTS if of_time else _NUMBERS
    if high is None:
        value = _say_number(low, of_time)
        return gettext(texts[comparison], value=value) if comparison in texts else value
    if low and high:
        return gettext("from %(low)s to %(high)s", low=_say_number(low, of_time), high=_say_number(high, of_time))
    open_end = texts[">=" if low else "<="]
    return gettext(open_end, value=_say_number(low or high, of_time))


def split_range(written: str) -> tuple[str, str | None]:
    """Split ``a..b`` into the values of both ends, "" for an open one; without dots the second is None."""
    ends, at = [""], 0
    while at < len(written):
        if written[at] == '"':
            ends[-1], at = unquoted(written, at)
        elif written.startswith("..", at):
            ends.append("")
            at += 2
        else:
            ends[-1] += written[at]
            at += 1
    return ends[0], ends[1] if len(ends) > 1 else None


def _say_number(value: str, of_time: bool) -> str:
    steps = relative_steps(value) if of_time else None
    if steps is None or value[0] not in "+-":
        return value
    count, unit = abs(steps[0]), steps[1]
    if value[0] == "-":
        return {
            "D": counted("%(n)s day ago", "%(n)s days ago", count),
            "W": counted("%(n)s week ago", "%(n)s weeks ago", count),
            "M": counted("%(n)s month ago", "%(n)s months ago", count),
            "Y": counted("%(n)s year ago", "%(n)s years ago", count),
        }[unit]
    return {
        "D": counted("in %(n)s day", "in %(n)s days", count),
        "W": counted("in %(n)s week", "in %(n)s weeks", count),
        "M": counted("in %(n)s month", "in %(n)s months", count),
        "Y": counted("in %(n)s year", "in %(n)s years", count),
    }[unit]


def _say_value(text: str) -> str:
    plain = all(character.isalnum() or character in "*?^-_./" for character in text)
    return text if plain else gettext("“%(words)s”", words=_visible(text))


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
