"""The index page of a paper and the Markdown page of a gallery: static, escaped, nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from deconvviz.paper.claims import Claim
from deconvviz.paper.pages import Page
from deconvviz.paper.writing import Written

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b6570; --page: #f6f7f8; --card: #ffffff; --line: #dde1e5;
  --link: #0067a8; --good: #00734f; --bad: #b04a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --soft: #9aa5af; --page: #14181b; --card: #1d2226;
  --line: #31383e; --link: #6bb9ec; --good: #45c69a; --bad: #f0954f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
header, main { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; padding-bottom: 0.5rem; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; }
header p { margin: 0.4rem 0; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 1.1rem 0 0.5rem; }
nav a { padding: 0.15rem 0.65rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--card);
  font-size: 0.87rem; text-decoration: none; }
a { color: var(--link); }
a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
section { margin: 1.4rem 0; padding: 1.1rem 1.3rem 1.2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 0.6rem; scroll-margin-top: 1rem; }
h2 { margin: 0 0 0.8rem; font-size: 1.12rem; }
h2 span { color: var(--soft); font-weight: 500; }
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: 0.6rem; border-radius: 0.4rem;
  background: #ffffff; }
figcaption { max-width: 60rem; margin-top: 0.8rem; font-size: 0.93rem; }
.links { margin: 0.6rem 0 0; color: var(--soft); font-size: 0.85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink);
  font-variant-numeric: tabular-nums; font-size: 0.93rem; }
caption { display: none; }
th, td { padding: 0.22rem 0.9rem 0.22rem 0; vertical-align: top; }
thead th { border-bottom: 1px solid var(--ink); }
tr.rule td { border-top: 1px solid var(--line); }
.l { text-align: left; } .c { text-align: center; } .r { text-align: right; }
.claims { margin: 0; padding: 0; list-style: none; }
.claims li { padding: 0.65rem 0; border-top: 1px solid var(--line); }
.claims li:first-child { border-top: 0; }
.claims p { margin: 0.2rem 0 0; color: var(--soft); font-size: 0.92rem; }
.verdict { margin-right: 0.4rem; font-weight: 650; }
.holds { color: var(--good); } .fails { color: var(--bad); } .open { color: var(--soft); }
"""

_TITLE = "Visualizing and Understanding Convolutional Networks"


def index_page(
    written: Sequence[Written],
    absent: dict[Page, str],
    claims: Sequence[Claim],
    model: dict[str, str],
    credit: str = "",
) -> str:
    """Return the index page: figures with captions and links to their files, tables, claims, and what is missing.

    `credit` says whose photographs are shown.
    """
    sections = [_section(w) for w in written]
    links = [f'<a href="#{w.page.name}">{html.escape(w.page.heading)}</a>' for w in written]
    if claims:
        sections.append(_claims(claims))
        links.append('<a href="#claims">Claims</a>')
    if absent:
        sections.append(_absent(absent))
        links.append('<a href="#absent">Not made</a>')
    name, weights = html.escape(model.get("name", "model")), html.escape(model.get("weights", ""))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_TITLE}: {name}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{_TITLE}</h1>",
            f"<p>The figures and tables of Zeiler &amp; Fergus (ECCV 2014) on <strong>{name}</strong>.</p>",
            f"<p>Weights: {weights}. Made by deconvviz {html.escape(model.get('deconvviz', ''))}.</p>",
            *([f"<p>{html.escape(credit)}</p>"] if credit else []),
            f"<nav>{''.join(links)}</nav>",
            "</header>",
            f"<main>\n{''.join(sections)}</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _section(written: Written) -> str:
    page = written.page
    number = f"{html.escape(page.heading)} " if page.number else ""
    head = f"<h2>{number}<span>{html.escape(page.title)}</span></h2>"
    if written.table is not None and page.kind == "table":
        shown = f'<div class="scroll">{written.table.html()}</div>'
    else:
        kind = next((k for k in ("png", "webp", "svg") if k in written.files), None)
        name = html.escape(written.files[kind].name, quote=True) if kind else ""
        shown = f'<img src="{name}" alt="{html.escape(page.title, quote=True)}" loading="lazy">' if kind else ""
    files = [path.name for path in written.paths]
    links = " · ".join(f'<a href="{html.escape(f, quote=True)}">{html.escape(f)}</a>' for f in files)
    caption = f"<figcaption>{html.escape(written.caption)}</figcaption>"
    return f'<section id="{page.name}">{head}<figure>{shown}{caption}</figure><p class="links">{links}</p></section>\n'


def _claims(claims: Sequence[Claim]) -> str:
    kinds = {True: "holds", False: "fails", None: "open"}
    items = "".join(
        f'<li><span class="verdict {kinds[c.holds]}">{c.verdict}</span>{html.escape(c.statement)} '
        f"<small>({html.escape(c.source)})</small><p>{html.escape(c.numbers)}</p></li>"
        for c in claims
    )
    return f'<section id="claims"><h2>Claims of the paper, checked</h2><ul class="claims">{items}</ul></section>\n'


def _absent(absent: dict[Page, str]) -> str:
    items = "".join(
        f"<li><strong>{html.escape(page.heading)}</strong> {html.escape(page.title if page.number else '')}"
        f"<p>{html.escape(why)}</p></li>"
        for page, why in absent.items()
    )
    return f'<section id="absent"><h2>Not made</h2><ul class="claims">{items}</ul></section>\n'


# How the page of a gallery begins.
GALLERY = "# The figures and tables of Zeiler & Fergus (2014), on "


def gallery_page(
    written: Sequence[Written], pictures: dict[str, Path], command: str, model: dict[str, str], credit: str = ""
) -> str:
    """Return the Markdown page of a gallery; `pictures` are the files of the figures, by the page's name."""
    lines = [
        f"{GALLERY}{model.get('name', 'model')}",
        "",
        f"Weights: {model.get('weights', '')}. Made by",
        "",
        "```sh",
        command,
        "```",
        "",
        *([credit, ""] if credit else []),
        "What the paper claims, checked on these numbers: [claims.md](claims.md).",
    ]
    for w in written:
        lines += ["", f"## {w.page.heading}" + (f". {w.page.title}" if w.page.number else ""), ""]
        if w.table is not None and w.page.kind == "table":
            lines += [type(w.table)(w.table.columns, w.table.rows, align=w.table.alignment()).markdown()]
        else:
            lines += [f"![{w.page.title}]({pictures[w.page.name].name})", ""]
        lines.append(w.caption)
    return "\n".join(lines) + "\n"
