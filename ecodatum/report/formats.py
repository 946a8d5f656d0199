"""Tables of texts, and what they look like on a terminal, in Markdown, LaTeX and HTML."""

import html as entities
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """A table as people read it.

    label: its name in references. align: `l` or `r` for each column; the first column names the row.
    best: (row, column) of the cells in bold. rule: the row above which a line is drawn.
    """

    label: str
    title: str
    caption: str
    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    rule: int | None = None
    notes: tuple[str, ...] = ()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def terminal(table: Table, *, width: int | None = None) -> list[RichTable | Text]:
    """Return what Rich prints, one after another.

    Where the table is wider than `width`, deviations go below their means, and then cells are folded.
    """
    shown = _grid(table)
    widest = Console(width=_WIDEST).measure(shown).maximum
    if width is not None and widest > width:
        shown = _grid(table, spread="\n± ")
    shown.width = Console(width=width or _WIDEST).measure(shown).maximum
    return [shown, *(Text(_one_line(line)) for line in (table.caption, *table.notes))]


def _grid(table: Table, *, spread: str = " ± ") -> RichTable:
    shown = RichTable(title=Text(_one_line(table.title)), title_justify="left", header_style="bold")
    for name, align in zip(table.header, table.align, strict=True):
        shown.add_column(Text(name), justify="left" if align == "l" else "right", overflow="fold")
    for i, row in enumerate(table.rows):
        styles = ["bold" if (i, j) in table.best else "" for j in range(len(row))]
        texts = [_one_line(cell).replace(" ± ", spread) for cell in row]
        cells = [Text(text, style=style) for text, style in zip(texts, styles, strict=True)]
        shown.add_row(*cells, end_section=i + 1 == table.rule)
    return shown


_WIDEST: Final = 10_000


def text(tables: Sequence[Table]) -> str:
    """Return what a terminal of any width would show, without its colours."""
    file = io.StringIO()
    console = Console(file=file, width=_WIDEST, color_system=None, force_terminal=False)
    for number, table in enumerate(tables):
        console.print(*[""] * (number > 0), *terminal(table), sep="\n")
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def markdown(tables: Sequence[Table]) -> str:
    """Return GitHub's Markdown: a heading, the table and its notes, for each table."""
    return "\n".join(_markdown(table, "#" if number == 0 else "##") for number, table in enumerate(tables))


def _markdown(table: Table, level: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    header = [_in_markdown(name) for name in table.header]
    rule = ["---" if align == "l" else "---:" for align in table.align]
    body = [
        [_bold(_in_markdown(cell), "**", (i, j) in table.best) for j, cell in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    notes = [f"{_in_markdown(note)}\n" for note in (table.caption, *table.notes)]
    grid = "\n".join(map(line, (header, rule, *body)))
    return "\n".join([f"{level} {_in_markdown(table.title)}\n", f"{grid}\n", *notes])


def _bold(cell: str, mark: str, best: bool) -> str:
    return f"{mark}{cell}{mark}" if best else cell


def _in_markdown(value: str) -> str:
    """Escape what Markdown, with tables and strikethrough, would take for a sign of its own."""
    return re.sub(r"([\\|*_`<>\[\]~#&$])", r"\\\1", _one_line(value))


def html(table: Table) -> str:
    """Return a `<table>` with a caption and scopes, in a `<figure>` with the notes."""
    head = "".join(
        f'<th scope="col"{_class("left", align == "l")}>{_in_html(name)}</th>'
        for name, align in zip(table.header, table.align, strict=True)
    )
    body = "".join(_html_row(table, i) for i in range(len(table.rows)))
    notes = "".join(f"<p>{_in_html(note)}</p>\n" for note in table.notes)
    return (
        f'<figure id="{_in_html(table.label)}">\n<table>\n'
        f"<caption>{_in_html(table.title)}. {_in_html(table.caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"<figcaption>\n{notes}</figcaption>\n</figure>\n"
    )


def _html_row(table: Table, i: int) -> str:
    name, *rest = map(_in_html, table.rows[i])
    cells = [
        f"<td{_class('left', align == 'l')}>"
        + (f"<strong>{cell}</strong>" if (i, j) in table.best else cell)
        + "</td>"
        for j, (cell, align) in enumerate(zip(rest, table.align[1:], strict=True), start=1)
    ]
    return f'<tr{_class("rule", i == table.rule)}><th scope="row">{name}</th>{"".join(cells)}</tr>\n'


def _in_html(value: str) -> str:
    return entities.escape(_one_line(value))


def _class(name: str, given: bool) -> str:
    return f' class="{name}"' if given else ""


_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.4; }}
figure {{ margin: 2em 0; }}
table {{ border-collapse: collapse; border-block: 2px solid; font-size: 0.9em; }}
caption, figcaption {{ text-align: left; padding-block: 0.5em; max-width: 60em; }}
figcaption p {{ margin: 0.2em 0; font-size: 0.9em; }}
th, td {{ padding: 0.2em 0.7em; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
thead th {{ white-space: normal; vertical-align: bottom; }}
th:first-child, .left {{ text-align: left; white-space: normal; min-width: 12em; }}
tbody th {{ font-weight: normal; }}
thead, .rule {{ border-block-start: 1px solid; border-block-end: 1px solid; }}
.rule {{ border-block-end: none; }}
</style>
</head>
<body>
{tables}</body>
</html>
"""


def page(tables: Sequence[Table]) -> str:
    """Return a page of HTML with the tables, that needs no other file."""
    return _PAGE.format(title=_in_html(tables[0].title), tables="".join(map(html, tables)))


_FIT_WIDTH: Final = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
#: For tables of more rows than _LONG, which leave no room for caption and notes on a page.
_FIT_HEIGHT: Final = r"\resizebox*{!}{\ifdim\totalheight>0.7\textheight 0.7\textheight\else\totalheight\fi}{%"
_LONG: Final = 30


def latex(tables: Sequence[Table]) -> str:
    """Return LaTeX for the packages booktabs and graphicx, one float a table, shrunk where it is too large.

    Latin letters and the signs of these tables go through every TeX. Text in another script is left as
    it is, for LuaLaTeX or XeLaTeX and a font that has it.
    """
    return r"% \usepackage{booktabs,graphicx}" + "\n" + "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    long = len(table.rows) > _LONG
    body: list[str] = []
    for i, row in enumerate(table.rows):
        cells = [_in_latex(cell) for cell in row]
        body += [r"\midrule"] * (i == table.rule)
        body.append(line([rf"\textbf{{{c}}}" if (i, j) in table.best else c for j, c in enumerate(cells)]))
    lines = [
        r"\begin{table}",
        r"\centering\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_in_latex(table.title)}. {_in_latex(table.caption)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9.-]', '-', table.label)}}}\smallskip",
        *[_FIT_HEIGHT] * long,
        _FIT_WIDTH,
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        line([_latex_head(*pair) for pair in zip(table.header, table.align, strict=True)]),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}" + "}" * long,
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *chain.from_iterable((_in_latex(note), r"\par") for note in table.notes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_head(name: str, align: str) -> str:
    """Return a column's head, a long one on two lines, so that the table need not be shrunk for it."""
    spaces = [i for i, sign in enumerate(name) if sign == " "]
    if len(name) <= _WIDE or not spaces:
        return _in_latex(name)
    middle = min(spaces, key=lambda i: abs(i - len(name) / 2))
    return rf"\shortstack[{align}]{{{_in_latex(name[:middle])}\\{_in_latex(name[middle:])}}}"


#: The length of a score with its deviation: a head up to that makes no column wider.
_WIDE: Final = len("0.000 ± 0.000")


#: What TeX takes for a command, a ligature or another letter; brackets and stars, since they may follow \\.
_LATEX: Final = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "√": r"$\surd$",
    "∩": r"$\cap$",
    "∪": r"$\cup$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "²": "$^2$",
    "₂": "$_2$",
    "°": r"$^\circ$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "\0": "{}",
    **{
        letter: f"$\\{name}$"
        for letter, name in {
            **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta"},
            **{"η": "eta", "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu"},
            **{"ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi"},
            **{"χ": "chi", "ψ": "psi", "ω": "omega", "µ": "mu"},
        }.items()
    },
}


def _in_latex(value: str) -> str:
    dashes = re.sub("-(?=-)", "-\0", _one_line(value))
    return "".join(_LATEX.get(sign, sign) for sign in dashes)
