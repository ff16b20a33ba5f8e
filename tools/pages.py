"""Replace the generated sections of a page, between the comments ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

Input: a page, the name of a section and its new text. Output: the page with that section replaced.
"""

from __future__ import annotations

from pathlib import Path


def fill(page: Path, name: str, text: str) -> None:
    """Replace the text of a section of a page.

    Args:
        page: Path of the page.
        name: Name of the section.
        text: New text of the section.

    Raises:
        ValueError: The page lacks one of the section's comments.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = page.read_text(encoding="utf-8")
    before, after = content.index(begin) + len(begin), content.index(end)
    page.write_text(f"{content[:before]}\n\n{text}\n{content[after:]}", encoding="utf-8")
