"""The console: the query language in a page that feels like a command line.

It only reads: every line is answered in the session of a GET request, which cannot write, and no command here changes anything.
What has been said before (the query, the level, the columns) is in the address of the next answer, and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from pyramid.view import view_config

from dicomweb import asking, query, search
from dicomweb.asking import Mistake, Question
from dicomweb.exports import KINDS
from dicomweb.languages import N_, gettext
from dicomweb.resources import ConsoleResource
from dicomweb.security import Permission
from dicomweb.views.search import export_address

ROWS_SHOWN = 20
VALUES_SHOWN = 30
MOST_FACETS = 6

# Command -> what may follow it, and what it does.
COMMANDS = {
    "count": ("[query]", N_("how many there are")),
    "facet": ("element …", N_("the values of elements, counted")),
    "columns": ("[element, …]", N_("what is shown; without elements the usual columns")),
    "level": ("image | series | study", N_("what is found")),
    "export": ("", N_("links to the whole result as a file")),
    "say": ("", N_("the query as a sentence")),
    "help": ("", N_("this list")),
    "clear": ("", N_("an empty page")),
}


@dataclass(frozen=True)
class Standing:
    """What has been said so far."""

    q: str = ""
    level: str = "image"
    columns: str = ""

    @classmethod
    def of(cls, parameters: Any) -> Standing:
        """Read it from the parameters of a request."""
        level = parameters.get("level", "")
        return cls(parameters.get("q", ""), level if level in asking.LEVELS else "image", parameters.get("columns", ""))

    def question(self) -> Question:
        """Read the question that is asked now. Raises Mistake."""
        return asking.read_question(self.q, level=self.level, columns=self.columns, now=datetime.now(UTC))

    def parameters(self) -> str:
        """Write it for an address."""
        given = {"q": self.q, "level": self.level, "columns": self.columns}
        return urlencode({name: value for name, value in given.items() if value})


@view_config(context=ConsoleResource, request_method="GET", renderer="console.jinja2", permission=Permission.IMAGE_READ)
def show_console(context: ConsoleResource, request: Any) -> dict[str, Any]:
    """Show the console; without a script with the answer to one line."""
    standing = Standing.of(request.GET)
    line = request.GET.get("line", "").strip()
    answer = answer_line(request, standing, line) if line else None
    return {"answer": answer, "standing": answer["standing"] if answer else standing, "commands": COMMANDS}


@view_config(
    context=ConsoleResource, name="answer", request_method="GET", renderer="_answer.jinja2", permission=Permission.IMAGE_READ
)
def show_answer(context: ConsoleResource, request: Any) -> dict[str, Any]:
    """Give the answer to one line, as a part of the page."""
    line = request.GET.get("line", "").strip()
    return {"answer": answer_line(request, Standing.of(request.GET), line), "commands": COMMANDS}


def answer_line(request: Any, standing: Standing, line: str) -> dict[str, Any]:
    """Answer one line: a command, or a query."""
    began = time.perf_counter()
    word, _, rest = line.partition(" ")
    answer: dict[str, Any] = {"line": line, "standing": standing, "mistake": None, "kind": "", "took_ms": 0}
    try:
        if word in _ANSWERS:
            answer |= _ANSWERS[word](request, standing, rest.strip())
        else:
            answer |= _rows(request, replace(standing, q="" if line == "*" else line))
    except Mistake as mistake:
        answer |= {"kind": "mistake", "mistake": mistake}
    return {**answer, "took_ms": round((time.perf_counter() - began) * 1000)}


def _rows(request: Any, standing: Standing) -> dict[str, Any]:
    question = standing.question()
    with asking.mistakes("q", question.text):
        found = search.find(
            request.dbsession, question.node, level=question.level, columns=question.column_names, size=ROWS_SHOWN
        )
    return {
        "kind": "rows",
        "standing": standing,
        "total": found.total,
        "level": question.level,
        "heads": question.column_names,
        "rows": [
            (f"/batches/{row.batch_id}/images/{row.image_id}", row.id, [row.values.get(name, "") for name in question.column_names])
            for row in found.rows
        ],
        "address": f"/search?{standing.parameters()}",
    }


def _count(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    standing = replace(standing, q=rest) if rest else standing
    question = standing.question()
    with asking.mistakes("q", question.text):
        total = search.count(request.dbsession, question.node, question.level)
    return {"kind": "count", "standing": standing, "total": total, "level": question.level}


def _facet(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    question = standing.question()
    fields = asking.read_fields(rest, "facet")[:MOST_FACETS]
    facets = asking.read_facets(request.dbsession, question, [(field, VALUES_SHOWN) for field in fields])
    lines = [
        [None if value.condition is None else query.unparse(asking.toggled(question.node, value.condition)) for value in facet.values]
        for facet in facets
    ]
    return {"kind": "facets", "facets": list(zip(facets, lines, strict=True))}


def _columns(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    if rest:
        rest = ",".join(column.name for column in asking.read_columns(rest))
    return _rows(request, replace(standing, columns=rest))


def _level(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    if rest not in asking.LEVELS:
        raise Mistake("level", rest, gettext("There is no such level"), 0, len(rest), gettext("image, series or study"))
    return _rows(request, replace(standing, level=rest))


def _export(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    question = standing.question()
    with asking.mistakes("q", question.text):
        total = search.count(request.dbsession, question.node, question.level)
    asked = {"q": standing.q, "level": standing.level, "columns": standing.columns}
    return {
        "kind": "export",
        "links": [(name, export_address(kind, **asked)) for kind, name in KINDS.items()],
        "total": total,
        "level": question.level,
    }


def _say(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    return {"kind": "sentence", "sentence": query.sentence(standing.question().node)}


def _help(request: Any, standing: Standing, rest: str) -> dict[str, Any]:
    return {"kind": "help", "operators": query.OPERATORS}


_ANSWERS = {
    "count": _count,
    "facet": _facet,
    "columns": _columns,
    "level": _level,
    "export": _export,
    "say": _say,
    "help": _help,
}
