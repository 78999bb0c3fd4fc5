"""Render figures as inline SVG.

Fixed colours become CSS variables, and ids get a prefix, so that they are unique in the page.
"""

import html
import io
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cifar_noisy.errors import printable
from cifar_noisy.report.page_parts import Figure
from cifar_noisy.report.plot import SERIES, import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholder colour: replaced by currentColor, the text colour of the page.
_INK = "#010203"
_PAPER = "none"

# The least at which texts are readable, by whether a figure is dense.
_LEAST_PIXELS_PER_INCH = {False: 62, True: 80}

_STYLE: Any = {  # matplotlib lists each of its settings in a type of its own
    "svg.fonttype": "none",
    "svg.hashsalt": "cifar-noisy",
    "font.size": 9.0,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "legend.facecolor": _PAPER,
    "legend.edgecolor": _INK,
}

# matplotlib's style is global, and two threads would restore each other's.
_STYLED = threading.Lock()

_CELL = re.compile(r'<g id="[\w-]+-cell-(?P<row>\d+)-(?P<column>\d+)">')

_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def figure(
    draw: Callable[["Axes"], object],
    caption: str,
    *,
    name: str,
    size: tuple[float, float],
    is_dense: bool = False,
    cells: Sequence[Sequence[str]] = (),
) -> Figure:
    """Draw a figure of a size in inches, in a style that the user's own does not change.

    `name` is unique among the page's figures. The texts of a dense figure are small, so that on a
    narrow screen it is scrolled rather than shrunk. `cells` are what those of a heat map say when
    the pointer is on them.
    """
    mpl = import_matplotlib()
    from matplotlib.figure import Figure as Canvas

    file = io.StringIO()
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    with _STYLED, mpl.rc_context(defaults | _STYLE), warnings.catch_warnings():
        # Texts stay texts, so that the browser's fonts count.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        canvas = Canvas(figsize=size, layout="constrained")
        ax = canvas.add_subplot()
        draw(ax)
        _cover_cells(ax, cells)
        canvas.savefig(file, format="svg", metadata=_NO_METADATA)
    svg = _for_a_page(file.getvalue(), name, size[0] * _LEAST_PIXELS_PER_INCH[is_dense])
    return Figure(re.sub(_CELL, lambda cell: _titled(cell, cells), svg), caption, size[0])


def _cover_cells(ax: "Axes", cells: Sequence[Sequence[str]]) -> None:
    """Lay an invisible square with an id on each cell of a heat map, above its text."""
    from matplotlib.patches import Rectangle

    for row, texts in enumerate(cells):
        for column in range(len(texts)):
            ax.add_patch(Rectangle((column, row), 1, 1, fill=False, linewidth=0, zorder=9)).set_gid(
                f"cell-{row}-{column}"
            )


def _titled(cell: re.Match[str], cells: Sequence[Sequence[str]]) -> str:
    text = cells[int(cell["row"])][int(cell["column"])]
    return f"{cell[0]}<title>{html.escape(printable(text))}</title>"


def _for_a_page(svg: str, name: str, min_width: float) -> str:
    """Return the svg element alone, with the width and colours of the page and unique ids."""
    svg = svg[svg.index("<svg") :]
    least = f'style="min-width: {min_width:.0f}px"'
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', rf"\1 {least}", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", lambda tag: _tag_for_a_page(tag[0], name), svg)


def _tag_for_a_page(tag: str, name: str) -> str:
    tag = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    tag = tag.replace(_INK, "currentColor")
    for number, colour in enumerate(SERIES):
        tag = tag.replace(colour, f"var(--series-{number}, {colour})")
    return tag
