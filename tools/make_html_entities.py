"""Write the named entities of HTML5 into javascript/bothways.js, from Python's table.

Run: python -m tools.make_html_entities. The file ends with the entities, after the line that starts with ``MARK``.
"""

from __future__ import annotations

import html.entities
import textwrap
from pathlib import Path

FILE = Path(__file__).parents[1] / "javascript" / "bothways.js"
MARK = "// made by tools/make_html_entities.py\n"


def table() -> str:
    """Return JavaScript that defines ``ENTITIES``, a map from names to characters.

    An entry is a name and the code points of its characters in base 16. ``*`` marks names that need no semicolon.
    """
    entries = []
    for name, characters in sorted(html.entities.html5.items()):
        if name.endswith(";"):
            bare = name.removesuffix(";")
            mark = "*" if bare in html.entities.html5 else ":"
            entries.append(bare + mark + "+".join(f"{ord(character):x}" for character in characters))
    lines = textwrap.fill(" ".join(entries), width=120, break_on_hyphens=False, break_long_words=False)
    return f"""const ENTITIES = new Map(`
{lines}
`.trim().split(/\\s/).flatMap((entry) => {{
  const [, name, mark, codes] = entry.match(/^(\\w+)([:*])(.+)$/);
  const characters = String.fromCodePoint(...codes.split("+").map((code) => parseInt(code, 16)));
  return [[`${{name}};`, characters], ...(mark === "*" ? [[name, characters]] : [])];
}}));
"""


def with_table(content: str) -> str:
    """Return the content of the file with the current table."""
    head, mark, _ = content.partition(MARK)
    if not mark:
        raise ValueError(f"{FILE} has no line {MARK!r}. Add it before the table")
    return head + mark + table()


if __name__ == "__main__":
    FILE.write_text(with_table(FILE.read_text(encoding="utf-8")), encoding="utf-8")
