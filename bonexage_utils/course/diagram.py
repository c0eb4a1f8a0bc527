"""The way from a film to months as a row of boxes, the part that a notebook is about marked in it."""

from bonexage_utils.figures import ACCENT, MUTED, Picture, new_figure

# What each part is called, what it does, and what comes out of it.
PARTS = {
    "backbone": ("backbone", "a ConvNeXt", "a map,\nC × h × w"),
    "pooling": ("pooling", "GeM", "C numbers"),
    "sex": ("sex", "girl or boy,\nas 32 numbers", "32 more"),
    "head": ("head", "two layers", "a score"),
    "output": ("output", "240 · sigmoid", "months"),
}
WIDTH, HEIGHT, STEP = 1.5, 1.0, 2.6  # of a box, and from box to box


def draw_way(marked: str | None = None) -> Picture:
    """Boxes for `PARTS`, with what passes between them; `marked` is filled. Raises KeyError for another part."""
    if marked is not None and marked not in PARTS:
        raise KeyError(f"no part '{marked}': use one of {', '.join(PARTS)}")
    figure, ax = new_figure(8.5, 2.1)
    row = [name for name in PARTS if name != "sex"]
    centres = {name: ((place + 1) * STEP, 0.0) for place, name in enumerate(row)} | {"sex": (2.5 * STEP, -1.35)}
    for name, (x, y) in centres.items():
        title, what, _ = PARTS[name]
        chosen = name == marked
        ax.add_patch(_box(x, y, chosen))
        ink = "white" if chosen else "black"
        ax.text(x, y + 0.2, title, ha="center", va="center", color=ink, fontweight="bold")
        ax.text(x, y - 0.2, what, ha="center", va="center", color=ink, fontsize=7.5)
    ax.text(0, 0, "a film", ha="center", va="center")
    ends = [0.4, *(centres[name][0] + WIDTH / 2 for name in row)]
    goals = [*(centres[name][0] - WIDTH / 2 for name in row), (len(row) + 1) * STEP - 0.9]
    for start, goal in zip(ends, goals, strict=True):
        _arrow(ax, (start, 0), (goal, 0))
    for name, start, goal in zip(row, ends[1:], goals[1:], strict=True):
        ax.text((start + goal) / 2, 0.12, PARTS[name][2], ha="center", va="bottom", fontsize=7.5, color=MUTED)
    _arrow(ax, (2.5 * STEP, -1.35 + HEIGHT / 2), (2.5 * STEP, -0.06))
    ax.set(xlim=(-0.5, (len(row) + 1) * STEP - 0.8), ylim=(-1.95, 0.9), aspect="equal")
    ax.axis("off")
    told = "; ".join(f"{title} ({what}) gives {out}".replace("\n", " ") for title, what, out in PARTS.values())
    mark = f" Marked: {marked}." if marked else ""
    return Picture(figure, f"The way from a film to months, box after box: {told}.{mark}")


def _box(x: float, y: float, chosen: bool):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch((x - WIDTH / 2 + 0.1, y - HEIGHT / 2 + 0.1), WIDTH - 0.2, HEIGHT - 0.2,
                          boxstyle="round,pad=0.1", facecolor=ACCENT if chosen else "white", edgecolor="black")


def _arrow(ax, start: tuple[float, float], goal: tuple[float, float]) -> None:
    ax.annotate("", goal, start, arrowprops={"arrowstyle": "->", "color": MUTED})
