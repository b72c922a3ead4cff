"""The query language: what is asked of the headers, as text, as a tree and as a sentence; documented in docs/search.md.

One tree serves page, API, command line and console. This package knows elements, their VRs and the values people write; it
knows neither database nor index. Asking::

    node = parse("Modality:CT SliceThickness:<=1.5 -KVP:missing", now=now)
    sentence(node)      # Modality is CT and SliceThickness is at most 1.5 and KVP is not missing
    unparse(node)       # the canonical text, for links: parse(unparse(node), now=now) == node

**A query is hostile text, and the only error is QuerySyntaxError**, which says where, what could stand there and what may
have been meant. Length, depth and the number of conditions are bounded, and every character is looked at a bounded number of
times; there is no pattern of the user's that runs here.

A tree has ``And``, ``Or`` and ``Not`` over three kinds of leaves: ``Term`` (an element passes a test), ``Words`` (free text) and
``Meta`` (batch, status, label, added, id). The test of an element whose VR has numbers is a ``Range``, also when it asks for one value:
``StudyDate:2020-01`` is a month, ``AcquisitionTime:09:30`` a minute, ``SliceThickness:1.5`` 1.5 to 1.5. What is no number of
the VR is ``Text``. To add a condition to a query use ``all_of([node, equals(field, value)])`` and ``unparse`` the result.

Modules: ``fields`` (names), ``numbers`` (values), ``tree``, ``parser``, ``writing`` (text and sentence), ``completion``,
``operators`` (all that can be written, as a table), ``errors``.
"""

from dicomweb.query.completion import Completion, Option, complete
from dicomweb.query.errors import QuerySyntaxError
from dicomweb.query.fields import Field, field_at, resolve
from dicomweb.query.operators import OPERATORS, Operator
from dicomweb.query.parser import DEEPEST, MOST_CHARACTERS, MOST_TERMS, STATUSES, equals, parse
from dicomweb.query.tree import (
    EVERYTHING,
    And,
    Exists,
    Leaf,
    Meta,
    Missing,
    Node,
    Not,
    Or,
    Range,
    Term,
    Test,
    Text,
    Words,
    all_of,
    any_of,
    leaves,
    negated,
)
from dicomweb.query.writing import sentence, unparse, write_value

__all__ = [
    "DEEPEST", "EVERYTHING", "MOST_CHARACTERS", "MOST_TERMS", "OPERATORS", "STATUSES", "And", "Completion", "Exists", "Field", "Leaf", "Meta",
    "Missing", "Node", "Not", "Operator", "Option", "Or", "QuerySyntaxError", "Range", "Term", "Test", "Text", "Words", "all_of", "any_of",
    "complete", "equals", "field_at", "leaves", "negated", "parse", "resolve", "sentence", "unparse", "write_value",
]  # fmt: skip
