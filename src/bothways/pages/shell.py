"""The shell of a page: one file that loads nothing, runs no script, follows light and dark, and prints.

In: a title and sections. Out: the bytes of an HTML document.
"""

from __future__ import annotations

import base64
import hashlib

from bothways.pages.elements import Markup, element

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2127; --soft: #5a6572; --paper: #fbfaf7; --card: #ffffff; --line: #dad7cf; --edge: #8a8578;
  --forward: #1f6fb2; --backward: #b2561f; --linear: #6b5aa8; --ensemble: #2f7d4f; --alarm: #a12727;
  --other-0: #0b7285; --other-1: #a61e6b; --other-2: #7a6a00; --other-3: #4a5568; --shade: 47, 125, 79;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e6e1; --soft: #a3adb8; --paper: #14171a; --card: #1d2226; --line: #353c43; --edge: #77818b;
    --forward: #6cb4ee; --backward: #f0a06a; --linear: #b3a4ec; --ensemble: #74c796; --alarm: #ff8f85;
    --other-0: #66d9e8; --other-1: #f783ac; --other-2: #e0cf5a; --other-3: #b8c1cc; --shade: 116, 199, 150;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1rem; margin: 0; }
p, ul { margin: .3rem 0 .8rem; max-width: 48rem; }
a { color: var(--forward); }
:focus-visible { outline: 3px solid var(--forward); outline-offset: 2px; }
.soft, figcaption p, footer { color: var(--soft); }
.alarm { color: var(--alarm); font-weight: 600; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; max-width: none; }
.headline { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; padding: 0; }
.headline > div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1rem;
  min-width: 11rem; flex: 1 1 11rem; display: flex; flex-direction: column; }
.headline dt { color: var(--soft); font-size: .9rem; }
.headline dd { margin: 0; font-variant-numeric: tabular-nums; }
.headline .value { font-size: 1.7rem; font-weight: 650; line-height: 1.25; }
.headline .interval { color: var(--soft); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem;
  min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption p { font-size: .9rem; margin: .2rem 0 .6rem; }
.scroll { overflow-x: auto; }
.scroll + figure { margin-top: 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .4rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 6.5rem; max-width: 18rem; overflow-wrap: break-word; unicode-bidi: isolate; }
td { max-width: 34rem; overflow-wrap: break-word; unicode-bidi: isolate; }
td:not(.number):last-child { overflow-wrap: anywhere; min-width: 24rem; }
.number { text-align: right; white-space: nowrap; } tbody th.number { min-width: 0; }
.matrix th, .matrix td { padding: .25rem .55rem; }
.matrix .right { outline: 2px solid var(--edge); outline-offset: -2px; }
.matrix thead th { max-width: 9rem; overflow-wrap: break-word; white-space: normal; unicode-bidi: isolate; }
.matrix thead th:first-child { max-width: none; white-space: nowrap; }
SHADES
details { margin-top: .4rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis-title { fill: var(--soft); }
svg .grid { stroke: var(--line); }
svg .axis, svg .tick { stroke: var(--edge); }
svg .reference { stroke: var(--edge); stroke-dasharray: 2 4; stroke-width: 1.5; }
svg .vertical { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 6 3; }
svg .line { fill: none; stroke: currentColor; stroke-width: 2; }
svg .whisker { stroke: currentColor; stroke-width: 1.5; }
svg .point { fill: currentColor; }
svg .faint { fill-opacity: .45; }
svg .bar { fill: currentColor; fill-opacity: .3; stroke: currentColor; }
.series { color: var(--ink); }
.style-0 { color: var(--ensemble); } .style-0 .line { stroke-width: 2.6; }
.style-1 { color: var(--forward); } .style-1 .line { stroke-dasharray: 7 3; }
.style-2 { color: var(--backward); } .style-2 .line { stroke-dasharray: 2 3; }
.style-3 { color: var(--linear); } .style-3 .line { stroke-dasharray: 9 3 2 3; }
.style-4 { color: var(--other-0); }
.style-5 { color: var(--other-1); } .style-5 .line { stroke-dasharray: 7 3; }
.style-6 { color: var(--other-2); } .style-6 .line { stroke-dasharray: 2 3; }
.style-7 { color: var(--other-3); } .style-7 .line { stroke-dasharray: 9 3 2 3; }
footer { margin-top: 3rem; font-size: .9rem; }
@media (max-width: 30rem) {
  svg text { font-size: 13.5px; }
  figure { padding: .7rem .6rem; }
  td:not(.number):last-child { min-width: 14rem; }
}
@media print {
  :root {
    color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #ccc; --edge: #777;
    --forward: #1f6fb2; --backward: #b2561f; --linear: #6b5aa8; --ensemble: #2f7d4f; --alarm: #a12727;
    --other-0: #0b7285; --other-1: #a61e6b; --other-2: #7a6a00; --other-3: #4a5568; --shade: 47, 125, 79;
  }
  body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  nav, details { display: none; }
  figure, .headline > div, tr { break-inside: avoid; }
  figure.wide:not(:has(.matrix)) { break-inside: auto; -webkit-box-decoration-break: clone; }
  h2, h2 + p, h3, figcaption { break-after: avoid; }
  p, figcaption { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  td:not(.number):last-child { min-width: 10rem; }
  table { font-size: .85em; }
  th, td { padding-right: .55rem; }
}
"""
_SHADES = "\n".join(f".shade-{step} {{ background: rgba(var(--shade), {step * 0.08:.2f}); }}" for step in range(1, 9))
STYLE = _STYLE.replace("SHADES", _SHADES)


def document(title: str, *body: object) -> bytes:
    """Return an HTML document.

    Its Content-Security-Policy forbids scripts, requests and every style but its own.

    Args:
        title: Its title.
        body: Markup and text of the page.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(STYLE)),
    )
    page = element("html", head, element("body", element("main", body)), lang="en")
    return f"<!doctype html>\n{page}\n".encode()


def headline(entries: list[tuple[str, str, str]]) -> Markup:
    """Return the most important numbers of a page, large.

    Args:
        entries: Name, value and a remark, such as its confidence interval.
    """
    return element(
        "dl",
        [
            element(
                "div",
                element("dt", name),
                element("dd", value, class_="value"),
                element("dd", remark, class_="interval"),
            )
            for name, value, remark in entries
        ],
        class_="headline",
    )
