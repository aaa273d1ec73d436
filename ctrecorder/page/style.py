"""How a page looks, on a screen and on A4; and what a browser may do with it: nothing else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

# Black on white, and no meaning in a colour: it is printed and copied.  Letters of a script that is
# written from right to left do not change the order of anything but the name that they are in.
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: #fff; color: #000;
  font: 1rem/1.45 system-ui, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5em; line-height: 1.25; margin: 0 0 .4em; }
h2 { font-size: 1.2em; border-bottom: 2px solid #000; margin: 1.5em 0 .5em; }
h3 { font-size: 1.05em; margin: 1.1em 0 .4em; }
p { margin: .4rem 0; }
.verdict { border: 3px solid #000; padding: .6rem .9rem; margin: .8rem 0; }
.verdict .word { font-size: 1.5em; font-weight: bold; line-height: 1.3; }
.verdict ul { font-size: 1.15em; }
.note { border-left: 4px solid #000; padding: .2rem .7rem; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) minmax(0, 1fr);
  gap: .25rem 1rem; margin: .4rem 0; }
dt { font-weight: bold; }
dd { margin: 0; overflow-wrap: anywhere; }
h1, h2, h3, p, li, dt, dd, th, td, caption, strong, pre { unicode-bidi: bidi-override; }
dd p, td p { margin: 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .92em; }
caption { text-align: left; font-weight: bold; padding: .3rem 0; }
th, td { border: 1px solid #555; padding: .25rem .45rem; text-align: left; vertical-align: top; }
td p, td strong { min-width: 9em; overflow-wrap: anywhere; }
td strong { display: inline-block; }
caption, h1, h2, h3, .any { overflow-wrap: anywhere; }
th { background: #eee; }
ul { margin: .3rem 0; padding-left: 1.3rem; }
.quoted, code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
.quoted { white-space: pre-wrap; overflow-wrap: anywhere; }
.end { overflow-wrap: anywhere; display: inline-block; min-width: 8em; }
.moment { white-space: nowrap; font-variant-numeric: tabular-nums; }
.hash { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85em;
  overflow-wrap: anywhere; }
pre { white-space: pre-wrap; border: 1px solid #555; padding: .5rem; }
summary { cursor: pointer; font-weight: bold; }
a { color: #000; }
:focus-visible { outline: 3px solid #000; outline-offset: 2px; }
@media screen and (max-width: 40rem) {
  dl { display: block; }
  dd { margin: 0 0 .4rem 1rem; }
  table { display: block; overflow-x: auto; }
}
@page { size: A4; margin: 16mm 15mm 20mm;
  @bottom-left { content: "SHA-256 of the twin: DIGEST"; font: 6.5pt monospace; }
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; } }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  h2, h3, caption { break-after: avoid; }
  tr, dt, dd, .verdict { break-inside: avoid; }
  main { padding-right: 1px; }
  thead { display: table-header-group; }
  tbody tr:first-child { break-before: avoid; }
  .screen { display: none; }
}
"""


def style(digest: str) -> str:
    """The style sheet of a page; each printed sheet shows the hash of its twin."""
    return _STYLE.replace("DIGEST", digest)


def policy(sheet: str) -> str:
    """The Content-Security-Policy: this one style sheet, and nothing else."""
    digest = b64encode(sha256(sheet.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
