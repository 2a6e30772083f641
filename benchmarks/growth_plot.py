"""How is cost against size drawn? As SVG, both axes logarithmic, with nothing but text."""

from math import ceil, floor, log10

WIDTH, HEIGHT = 820, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 250, 50, 60
# Told apart by people who don't see red and green alike (Okabe and Ito).
COLORS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8C8C00", "#888888"]

Series = dict[str, list[tuple[int, float]]]


def draw(title: str, x_label: str, y_label: str, series: Series) -> str:
    """An SVG document. `series`: for each name its (size, cost) pairs, all above 0."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_range, y_range = (log10(min(xs)), log10(max(xs))), (floor(log10(min(ys))), ceil(log10(max(ys))))

    def across(x: float) -> float:
        return LEFT + (log10(x) - x_range[0]) / (x_range[1] - x_range[0] or 1) * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (log10(y) - y_range[0]) / (y_range[1] - y_range[0] or 1) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 28, title, size=16),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, x_label, anchor="middle"),
        _text(LEFT, TOP - 8, y_label),
    ]
    for power in range(ceil(x_range[0]), floor(x_range[1]) + 1):
        parts.append(_line(across(10**power), TOP, across(10**power), HEIGHT - BOTTOM))
        parts.append(_text(across(10**power), HEIGHT - BOTTOM + 18, f"{10**power:,}", anchor="middle"))
    for power in range(y_range[0], y_range[1] + 1):
        parts.append(_line(LEFT, up(10.0**power), WIDTH - RIGHT, up(10.0**power)))
        parts.append(_text(LEFT - 8, up(10.0**power) + 4, f"{10.0**power:,.0f}", anchor="end"))
    labels_at: list[float] = []
    by_end = sorted(enumerate(series.items()), key=lambda item: -item[1][1][-1][1])
    for index, (name, points) in by_end:
        color = COLORS[index % len(COLORS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{color}"/>' for x, y in points]
        # Labels in the order of the lines' ends, never on top of each other.
        at = max(up(points[-1][1]) + 4, labels_at[-1] + 17 if labels_at else 0)
        labels_at.append(at)
        parts.append(_text(WIDTH - RIGHT + 10, at, name, color=color))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, color: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'
