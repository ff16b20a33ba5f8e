"""Build HTML and SVG from elements, so that no text reaches a page without being escaped.

In: names, attributes and content of elements. Out: ``Markup``. Text that is not ``Markup`` is escaped: as HTML, and
characters that a page would not show as they are, such as bidirectional overrides.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from bothways.errors import escaped

_VOID = {"meta", "link", "br", "hr"}
Cell = str | int | float | None
"""A cell of a table. None is an empty cell."""


class Markup(str):
    """HTML or SVG. Only functions of this module make it from text."""

    __slots__ = ()


def escape(content: object) -> Markup:
    """Return content as markup. Text is escaped, lists are joined, and None is empty."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup()
    if isinstance(content, list | tuple):
        return Markup("".join(map(escape, content)))
    return Markup(html.escape(escaped(str(content))))


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: Its name, such as ``p``. Must not come from data.
        content: What it contains: markup, text, or lists of them.
        attributes: Its attributes. ``class_`` is ``class``, and ``stroke_width`` is ``stroke-width``. One that is None
            is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str | None = None, class_: str | None = None
) -> Markup:
    """Return a table that scrolls sideways where the page is narrow. The first cell of a row names it.

    Args:
        columns: Titles of the columns.
        rows: Cells: markup, text, or numbers, which are aligned to the right.
        caption: Caption, if any.
        class_: Class of the table, if any.
    """
    kept = [list(row) for row in rows]
    is_number = [
        bool(kept) and all(cell is None or _is_number(cell) for cell in column) for column in zip(*kept, strict=True)
    ]
    is_number = is_number or [False] * len(columns)
    head = [
        element("th", title, scope="col", class_="number" if right else None)
        for title, right in zip(columns, is_number, strict=True)
    ]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_="number" if is_number[0] else None),
            [
                element("td", cell, class_="number" if right else None)
                for cell, right in zip(row[1:], is_number[1:], strict=True)
            ],
        )
        for row in kept
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", head)),
            element("tbody", body),
            class_=class_,
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or columns[0],
    )


def details(summary: str, *content: object) -> Markup:
    """Return content that is folded until the reader opens it."""
    return element("details", element("summary", summary), content)


def section(key: str, title: str, *content: object) -> Markup:
    """Return a section of a page with a heading.

    Args:
        key: Its id, such as ``reliability``, to link to it.
        title: Its heading.
        content: What it contains.
    """
    return element("section", element("h2", title, id=key), content, aria_labelledby=key)


def _is_number(cell: object) -> bool:
    """Return whether a cell is a number, or a text that looks like one, such as ``97.5%`` or ``1,204``."""
    if isinstance(cell, int | float):
        return True
    text = str(cell)
    return bool(text) and set(text) <= set("0123456789.,%+-–−<e to") and any(map(str.isdigit, text))
