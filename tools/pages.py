"""Keep made parts of a page between its marks: ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

In: a page, a part's name and its new text. Out: the page with that part replaced.
"""

from __future__ import annotations

from pathlib import Path


def fill(page: Path, name: str, text: str) -> None:
    """Put text between a page's marks.

    Raises:
        ValueError: The page lacks one of them.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = page.read_text(encoding="utf-8")
    before, after = content.index(begin) + len(begin), content.index(end)
    page.write_text(f"{content[:before]}\n\n{text}\n{content[after:]}", encoding="utf-8")
