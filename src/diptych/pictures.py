"""Pictures for people: contact sheets, grids of translations, the map of chosen images, a confusion matrix."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diptych.images import Classes, Pixels

Points = NDArray[np.float64]  # (n, 2), or (2,) for one

PAPER, INK, FAINT, ACCENT = "#faf9f6", "#2a2a2e", "#a9b4c0", "#d1602a"
GAP = 12  # pixels around and between tiles
CAPTION = 22  # pixels of height for a line of text
LEGIBLE = 200  # pixels: narrower pictures are enlarged in a grid
TILE = 192  # pixels: the width of a thumbnail on it
LANDSCAPE = 1.5  # width over height that a contact sheet aims at

MAP_WIDTH, MAP_HEIGHT = 1200, 820  # pixels
THUMBNAIL = 84  # pixels, the longer side
LISTED, LIST_COLUMNS = 60, 4  # names below the map

CELL, LABEL, LABEL_ROOM = 30, 13, 130  # pixels: a cell of a confusion matrix, its names' letters and length
MOST_CELLS = 40  # a side; more are smaller, and without their numbers


def contact_sheet(
    pictures: Sequence[Pixels], captions: Sequence[str], columns: int | None = None, tile: int = TILE
) -> Image.Image:
    """Thumbnails `tile` pixels wide on a light ground, each with its caption (elided where long) beneath.

    The pictures may differ in size and shape. Without `columns` the sheet comes out somewhat wider than high.
    Raises `ValueError` where there is no picture, or the captions are more or fewer.
    """
    font = _font(12)
    thumbnails = [_to_width(picture, tile) for picture in pictures]
    if columns is None:
        mean_height = CAPTION + sum(thumbnail.height for thumbnail in thumbnails) / max(len(thumbnails), 1)
        columns = math.ceil(math.sqrt(LANDSCAPE * len(thumbnails) * mean_height / tile))
    columns = min(columns, len(thumbnails))
    entries = list(zip(thumbnails, captions, strict=True))
    rows = [entries[start : start + columns] for start in range(0, len(entries), columns)]
    heights = [max(thumbnail.height for thumbnail, _ in row) for row in rows]

    size = GAP + columns * (tile + GAP), GAP + sum(height + CAPTION + GAP for height in heights)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (thumbnail, caption) in enumerate(row):
            left = GAP + column * (tile + GAP)
            sheet.paste(thumbnail, (left, top + height - thumbnail.height))
            draw.text((left, top + height + CAPTION // 2), _elide(caption, font, tile), INK, font, anchor="lm")
        top += height + CAPTION + GAP
    return sheet


def matted(picture: Pixels, bars: tuple[tuple[int, int], tuple[int, int]]) -> Pixels:
    """An RGB picture `(H, W, 3)` on paper: so many pixels ((above, below), (left, right)) of it."""
    height, width = picture.shape[:2]
    (above, below), (left, right) = bars
    sheet = np.array(Image.new("RGB", (left + width + right, above + height + below), PAPER))
    sheet[above : above + height, left : left + width] = picture
    return sheet


def grid(rows: Sequence[Sequence[Pixels]], titles: Sequence[str], scale: int | None = None) -> Image.Image:
    """Rows of same-sized pictures under column titles: input, translation, truth.

    Every pixel becomes `scale` by `scale` pixels; by default as many as make a picture at least 200 pixels wide.
    Raises `ValueError` where the pictures differ in size, or a row has more or fewer of them than there are titles.
    """
    height, width = rows[0][0].shape[:2]
    if any(picture.shape != (height, width, 3) for row in rows for picture in row):
        raise ValueError(f"a grid takes pictures of one size, here {width}x{height} RGB")
    scale = scale or math.ceil(LEGIBLE / width)
    height, width = height * scale, width * scale

    font = _font(15)
    size = GAP + len(titles) * (width + GAP), GAP + CAPTION + len(rows) * (height + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        left = GAP + column * (width + GAP)
        draw.text((left, GAP + CAPTION // 2 - 2), _elide(title, font, width), INK, font, anchor="lm")
    for line, row in enumerate(rows):
        for column, (picture, _) in enumerate(zip(row, titles, strict=True)):
            enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (GAP + column * (width + GAP), GAP + CAPTION + line * (height + GAP)))
    return sheet


def selection_map(
    features: NDArray[np.float32],
    chosen: Sequence[int],
    captions: Sequence[str],
    thumbnails: Sequence[Pixels],
    of: tuple[int, int] | None = None,
) -> Image.Image:
    """All images as dots on their first two principal components, the chosen ones numbered, pictured and named.

    `features` is `(N, D)`; `chosen` holds rows of it, `captions` and `thumbnails` belong to these. Where they are only
    a part, `of` says how many images there are, and how many were chosen. Both axes have one scale, so distances on the
    map are distances in the plane. A thumbnail that finds no free place is left out, its number stays.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    points, share = principal_plane(features)
    names = [f"{number}  {caption}" for number, (_, caption) in enumerate(zip(chosen, captions, strict=True), start=1)]
    if len(names) > LISTED:
        names[LISTED - 1 :] = [f"and {len(names) - LISTED + 1} more"]
    list_rows = math.ceil(len(names) / LIST_COLUMNS)

    height = MAP_HEIGHT + CAPTION * list_rows + GAP
    figure = Figure(figsize=(MAP_WIDTH / 100, height / 100), dpi=100, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    left, right, top, bottom = 44, MAP_WIDTH - 16, height - 44, height - MAP_HEIGHT + 44  # pixels, from the lower left
    axes = figure.add_axes(
        (left / MAP_WIDTH, bottom / height, (right - left) / MAP_WIDTH, (top - bottom) / height), facecolor="white"
    )
    middle = (points.max(0) + points.min(0)) / 2
    room = np.array([right - left, top - bottom]) - 1.5 * THUMBNAIL  # pixels for the dots, thumbnails fit around them
    per_pixel = (np.ptp(points, axis=0) / room).max() or 1.0
    axes.set_xlim(*(middle[0] + per_pixel * (right - left) / 2 * np.array([-1, 1])))
    axes.set_ylim(*(middle[1] + per_pixel * (top - bottom) / 2 * np.array([-1, 1])))
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"first principal component, {share[0]:.1%} of the variance", color=INK)
    axes.set_ylabel(f"second, {share[1]:.1%}", color=INK)
    for spine in axes.spines.values():
        spine.set_color("#dddad2")

    marks = points[list(chosen)]  # (k, 2)
    area = np.clip(16_000 / len(points), 3, 16)  # of a dot: thousands of large ones would run into one blot
    images, choices = of or (len(points), len(marks))
    dots_label = _part_label("all images", len(points), images)
    axes.scatter(points[:, 0], points[:, 1], area, FAINT, linewidths=0, alpha=0.8, label=dots_label)
    marks_label = _part_label("chosen", len(marks), choices)
    axes.scatter(marks[:, 0], marks[:, 1], s=190, color=ACCENT, edgecolors="white", zorder=5, label=marks_label)
    small = [_to_longer_side(picture) for picture in thumbnails]
    box = np.array([image.size for image in small]).max(0, initial=0) + 12  # pixels, with frame and a little air
    dots = axes.transData.transform(points)
    places = _free_places(dots, list(chosen), box, np.array([left, bottom]), np.array([right, top]))
    for number, (mark, image, place) in enumerate(zip(marks, small, places, strict=True), start=1):
        axes.text(
            mark[0], mark[1], str(number), color="white", fontsize=8, weight="bold", ha="center", va="center", zorder=6
        )
        if not np.isnan(place).any():
            centre = axes.transData.inverted().transform(place)
            axes.plot(*zip(mark, centre, strict=True), color=ACCENT, linewidth=1, zorder=3)
            ImageDraw.Draw(image).text((3, 2), str(number), "white", _font(11), stroke_width=2, stroke_fill=ACCENT)
            thumbnail = OffsetImage(np.asarray(image), zoom=1, dpi_cor=False)
            frame = {"edgecolor": ACCENT, "linewidth": 1}
            axes.add_artist(AnnotationBbox(thumbnail, (centre[0], centre[1]), pad=0.12, zorder=4, bboxprops=frame))
    figure.legend(loc="upper right", ncols=2, frameon=False, labelcolor=INK, bbox_to_anchor=(0.99, 1))

    font = _font(12)
    column_width = (right - left) / LIST_COLUMNS
    canvas.draw()  # type: ignore[no-untyped-call]
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    draw = ImageDraw.Draw(picture)
    draw.text((left, 22), "Which images were chosen", INK, _font(17), anchor="lm")
    for index, name in enumerate(names):
        column, row = divmod(index, list_rows)
        place = left + column * column_width, MAP_HEIGHT + CAPTION * (row + 0.5)
        draw.text(place, _elide(name, font, column_width - GAP), INK, font, anchor="lm")
    return picture


def _part_label(what: str, drawn: int, there_are: int) -> str:
    return f"{what} ({drawn})" if drawn == there_are else f"{what} ({drawn:,} drawn of {there_are:,})"


def confusion_matrix(confusion: NDArray[np.int64], classes: Classes) -> Image.Image:
    """What each true class was taken for: rows of pixel counts `(K, K)`, true by predicted, as shares of the truth.

    Void is left out. A class that the truth does not hold has an empty row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    kept = classes.kept
    font = _font(LABEL)
    names = [_elide(classes.names[row], font, LABEL_ROOM) for row in kept]
    true = confusion.sum(1)[kept]  # with what was taken for void
    shares = confusion[np.ix_(kept, kept)] / np.maximum(true, 1)[:, None]

    legible = len(kept) <= MOST_CELLS
    side = len(kept) * (CELL if legible else LABEL)
    left = bottom = math.ceil(max(font.getlength(name) for name in names)) + 44  # pixels: the names and the axis' own
    width, height = max(left + side, 300) + 24, bottom + side + 48
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.imshow(shares, LinearSegmentedColormap.from_list("share", ["#ffffff", ACCENT, "#5a2208"]), vmin=0, vmax=1)
    points = LABEL * 0.72
    axes.set_xticks(range(len(kept)), names, rotation=90, fontsize=points, color=INK, parse_math=False)
    axes.set_yticks(range(len(kept)), names, fontsize=points, color=INK, parse_math=False)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color("#dddad2")
    for row, column in np.ndindex(*shares.shape):
        if legible and true[row] > 0:
            share = f"{shares[row, column]:.2f}".replace("0.", ".")
            colour = "white" if shares[row, column] > 0.4 else FAINT if share == ".00" else INK
            axes.text(column, row, share, color=colour, fontsize=7, ha="center", va="center")
    figure.text(12 / width, 1 - 20 / height, "What each true class was taken for", color=INK, fontsize=11, va="center")
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]


def principal_plane(features: NDArray[np.float32]) -> tuple[Points, Points]:
    """Features `(N, D)` -> the first two principal components `(N, 2)` and the share of the variance of each `(2,)`."""
    centred = features - features.mean(0, dtype=np.float64)
    # The D x D scatter has the same right singular vectors as the N x D features, and is the quicker where N is large.
    tall = len(centred) > centred.shape[1]
    directions = np.linalg.svd(centred.T @ centred if tall else centred, full_matrices=False)[2][:2]
    points = np.zeros((len(centred), 2))
    points[:, : len(directions)] = centred @ directions.T
    variance = (centred**2).sum()
    return points, (points**2).sum(0) / variance if variance > 0 else np.zeros(2)


def _free_places(dots: Points, chosen: list[int], box: Points, lowest: Points, highest: Points) -> Points:
    """Where to centre each chosen dot's thumbnail: near it, inside the frame, over no other thumbnail or chosen dot.

    All in pixels: dots `(N, 2)`, the size of a thumbnail, the frame's corners. Of the free places at one distance the
    one that hides the fewest dots is taken; NaN where none is free. Returns `(k, 2)`.
    """
    angles = np.arange(16) * (np.pi / 8)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (16, 2)
    places = np.full((len(chosen), 2), np.nan)
    for index, dot in enumerate(dots[chosen]):
        for distance in range(THUMBNAIL * 3 // 4, THUMBNAIL * 4, THUMBNAIL // 3):
            ring = dot + distance * directions
            inside = ((ring >= lowest + box / 2) & (ring <= highest - box / 2)).all(1)
            occupied = _near(ring, places[:index], box).any(1) | _near(ring, dots[chosen], box / 2 + 8).any(1)
            free = ring[inside & ~occupied]
            if len(free):
                places[index] = free[_near(free, dots, box / 2).sum(1).argmin()]
                break
    return places


def _near(points: Points, others: Points, reach: Points) -> NDArray[np.bool_]:
    """Which of `others` `(m, 2)` lie within `reach` `(2,)` of which of `points` `(n, 2)`, along both axes: `(n, m)`."""
    near: NDArray[np.bool_] = np.all(np.abs(points[:, None] - others) < reach, axis=2)
    return near


def reduced(picture: Pixels) -> Pixels:
    """A picture `(H, W, 3)` no wider than a contact sheet shows it."""
    return picture if picture.shape[1] <= TILE else np.asarray(_to_width(picture, TILE))


def _to_width(picture: Pixels, width: int) -> Image.Image:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)


def _to_longer_side(picture: Pixels) -> Image.Image:
    height, width = picture.shape[:2]
    return _to_width(picture, max(1, round(THUMBNAIL * width / max(height, width))))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans out of matplotlib's data: Pillow's own font has no accented, Greek or Cyrillic letters."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _elide(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text` on one line, its middle replaced by dots where it is wider than `width` pixels."""
    text = " ".join(text.split())
    kept = len(text)
    shown = text
    while font.getlength(shown) > width and kept > 0:
        kept -= 1
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
    return shown
