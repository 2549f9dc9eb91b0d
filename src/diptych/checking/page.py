"""What was found in a dataset, on one self-contained page: the findings with their pictures, then all the rest."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.checking.checked import Checked, kinds_of
from diptych.checking.findings import Finding
from diptych.checking.neighbours import NEAR
from diptych.checking.outlines import STRANGE
from diptych.checking.pairing import Pairing
from diptych.checking.survey import Survey
from diptych.errors import DiptychError
from diptych.images import Classes, open_image, read_class_map, rgb
from diptych.report import Table, escaped, note_html, short_number, table_html, ticks, write_page

HIGH = 240  # pixels of a thumbnail, shown at half of that on ordinary screens
PER_FOLDER, PER_FINDING, PAIRS, LEAST, NEIGHBOURS = 12, 6, 8, 4, 6  # pictures shown
SIZES = 4  # the most common, by name
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 170, 40, 350, 8, 146  # of a chart and its frame, in its viewBox
BINS = 30
ACCENT = np.array([209, 96, 42], np.float32)
COLOURS = {"error": 7, "warning": 1, "note": 0}


def write_check_page(path: Path, title: str, checked: Checked, seed: int = 0) -> None:
    """Write the page to `path` in one piece. `seed` decides which images are shown as examples."""
    rng = np.random.default_rng(seed)
    surveys = checked.surveys
    images = sum(len(found.names) + len(found.problems) for found in surveys.values())
    paired = {side.place.name for pairing in checked.pairings.values() for side in (pairing.a, pairing.b)}
    figures = [("images", f"{images:,}"), ("pairs", f"{sum(len(p.rows) for p in checked.pairings.values()):,}")]
    figures += [(f"{kind}s", f"{checked.count(kind):,}") for kind in COLOURS]
    lead = (
        "Nothing here would stop a training." if not checked.count("error") else "A training would stop at the errors."
    )
    write_page(
        path,
        title,
        lead,
        figures=figures,
        sections={
            "Findings": [_finding(finding, surveys) for finding in checked.findings]
            or [note_html("Nothing stands out: no unreadable, doubled, leaked or misplaced image.")],
            "Folders": [_folders(surveys)],
            "Pairs": [_pairs(split, pairing, rng) for split, pairing in checked.pairings.items() if len(pairing.rows)],
            "How pairs fit": _fits(checked),
            "Validation beside training": _neighbours(checked),
            "Images": [_sample(found, rng) for name, found in surveys.items() if found.names and name not in paired],
            "Classes": _classes(surveys),
        },
    )


def _finding(finding: Finding, surveys: dict[str, Survey]) -> str:
    step = 2 if finding.pairwise else 1
    groups = [finding.files[start : start + step] for start in range(0, len(finding.files), step)]
    overlaid = finding.kind in ("mirrored", "shifted", "strange", "size")
    figures = [_figure([Path(file) for file in group], surveys, overlaid) for group in groups[:PER_FINDING]]
    more = len(groups) - PER_FINDING
    rest = note_html(f"and {more:,} more, in check.json") if more > 0 and any(figures) else ""
    return (
        f'<div class="finding c{COLOURS[finding.severity]}"><p><b>{finding.severity}</b>{escaped(finding.text)}</p>'
        f"{_thumbs(figures)}{rest}</div>"
    )


def _pairs(split: str, pairing: Pairing, rng: np.random.Generator) -> str:
    chosen = _some(len(pairing.rows), PAIRS, rng)
    surveys = {"a": pairing.a, "b": pairing.b}
    text = f"{split}: a, b, and the outlines of b upon a; {len(chosen)} of {len(pairing.rows):,} pairs, at random."
    return note_html(text) + _thumbs([_figure(list(pairing.files(pair)), surveys, True) for pair in chosen])


def _sample(found: Survey, rng: np.random.Generator) -> str:
    chosen = _some(len(found.names), PER_FOLDER, rng)
    text = f"{found.place.name}: {len(chosen)} of {len(found.names):,} images of {found.place.folder}, at random."
    return note_html(text) + _thumbs([_figure([found.file(row)], {"": found}, False) for row in chosen])


def _some(count: int, limit: int, rng: np.random.Generator) -> list[int]:
    return sorted(rng.choice(count, min(limit, count), replace=False).tolist())


def _thumbs(figures: Sequence[str]) -> str:
    shown = "".join(figures)
    return f"<div class=thumbs>{shown}</div>" if shown else ""


def _figure(files: Sequence[Path], surveys: dict[str, Survey], overlaid: bool) -> str:
    """The images side by side over the name of the first; those that cannot be read are left out."""
    pictures = []
    for file in files:
        try:
            pictures.append(_thumbnail(file, _classes_at(file, surveys)))
        except DiptychError:
            continue  # told among the findings
    if not pictures:
        return ""
    if overlaid and len(pictures) == 2:
        pictures.append(_outlined(*pictures))
    tags = "".join(
        f'<img alt="{escaped(str(file))}" loading=lazy src="data:image/jpeg;base64,{_jpeg(picture)}">'
        for file, picture in zip([*files, files[-1]], pictures, strict=False)
    )
    stems = list(dict.fromkeys(PurePath(file).stem for file in files))
    return f"<figure><div>{tags}</div><figcaption>{escaped(' | '.join(stems))}</figcaption></figure>"


def _classes_at(file: Path, surveys: dict[str, Survey]) -> Classes | None:
    places = [found.place for found in surveys.values() if file.is_relative_to(found.place.folder)]
    return places[0].classes if places else None


def _thumbnail(file: Path, classes: Classes | None) -> Image.Image:
    if classes is not None:
        picture = Image.fromarray(classes.paint(read_class_map(file, classes)))
    else:
        picture = rgb(open_image(file), str(file))
    # At least two pixels, as edges need a neighbour.
    width = min(max(2, round(picture.width * HIGH / picture.height)), 3 * HIGH)
    return picture.resize((width, HIGH), Image.Resampling.BICUBIC if classes is None else Image.Resampling.NEAREST)


def _outlined(a: Image.Image, b: Image.Image) -> Image.Image:
    """The edges of b in colour upon a in grey."""
    ground = np.asarray(a.convert("L"), np.float32)[..., None]  # (H, W, 1)
    down, across = np.gradient(np.asarray(b.resize(a.size).convert("RGB"), np.float32), axis=(0, 1))
    strength = np.sqrt((down**2 + across**2).sum(2, keepdims=True))
    share = (strength / max(float(np.percentile(strength, 98)), 1.0)).clip(0, 1)
    return Image.fromarray((ground * (1 - share) + ACCENT * share).astype(np.uint8))


def _jpeg(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    return base64.b64encode(data.getvalue()).decode()


def _folders(surveys: dict[str, Survey]) -> str:
    rows = []
    for name, found in surveys.items():
        sizes = Counter(header.size for header in found.headers).most_common()
        words = [f"{width}x{height}" + (f" ({count:,})" if len(sizes) > 1 else "") for (width, height), count in sizes]
        more = [f"{len(sizes) - SIZES:,} other sizes"] if len(sizes) > SIZES else []
        kinds = kinds_of(found)
        made = ", ".join(f"{kind} ({count:,})" if len(kinds) > 1 else kind for kind, count in kinds)
        rows.append(
            (
                name,
                f"{len(found.names) + len(found.problems):,}",
                f"{len(found.problems):,}",
                ", ".join(words[:SIZES] + more),
                made,
                str(found.place.folder),
            )
        )
    return table_html(Table("", ("", "images", "with errors", "sizes", "made of", "folder"), tuple(rows)))


def _classes(surveys: dict[str, Survey]) -> list[str]:
    return [_class_table(found) for found in surveys.values() if found.place.classes is not None and found.names]


def _class_table(found: Survey) -> str:
    classes = found.place.classes
    assert classes is not None
    shares = found.class_pixels / found.class_pixels.sum()
    rows = []
    for row in np.argsort(-shares, kind="stable").tolist():
        colour = "#" + bytes(classes.colours[row].astype(np.uint8)).hex()
        width = 100 * shares[row] / shares.max()
        rows.append(
            f"<tr><th scope=row>{escaped(classes.names[row])}</th>"
            f"<td class=number>{shares[row]:.2%}</td><td class=number>{found.class_images[row]:,}</td>"
            f'<td><i style="width:{width:.1f}%;background:{colour}"></i></td></tr>'
        )
    caption = f"{found.place.name}: {len(found.names):,} class maps"
    return (
        f'<div class="table bars"><table><caption>{escaped(caption)}</caption><thead><tr><th scope=col>class</th>'
        "<th scope=col class=number>pixels</th><th scope=col class=number>images</th><th scope=col></th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _fits(checked: Checked) -> list[str]:
    charts = [
        _histogram(f"{split}: {len(found.lying):,} pairs", found.lying, STRANGE, max(found.lying.max(), 8.0), "sigma")
        for split, found in checked.alignments.items()
    ]
    if not charts:
        return []
    text = (
        "How well the outlines of each pair fit, in standard deviations of images that do not belong together. Pairs "
        "of the same scene stand to the right; at the dashed line and left of it they are like strangers. Below, those "
        "that fit least."
    )
    parts = [note_html(text), f"<div class=charts>{''.join(charts)}</div>"]
    for split, found in checked.alignments.items():
        pairing = checked.pairings[split]
        least = np.argsort(found.lying, kind="stable")[:LEAST].tolist()
        surveys = {"a": pairing.a, "b": pairing.b}
        parts.append(_thumbs([_figure(list(pairing.files(pair)), surveys, True) for pair in least]))
    return parts


def _neighbours(checked: Checked) -> list[str]:
    if not checked.nearest:
        return []
    charts, figures = [], []
    for name, found in checked.nearest.items():
        scored = checked.surveys[name]
        trained = checked.surveys[scored.place.side]
        most = max(float(found.distances.max()), 4 * NEAR)
        charts.append(_histogram(f"{name}: {len(scored.names):,} images", found.distances, NEAR, most, "distance"))
        for row in np.argsort(found.distances, kind="stable")[:NEIGHBOURS].tolist():
            pair = [scored.file(row), trained.file(int(found.rows[row]))]
            figures.append(_figure(pair, checked.surveys, False))
    text = (
        "How far each picture's descriptor lies from the nearest training picture's. Left of the dashed line they are "
        "near-duplicates: a copy saved again, resized, cropped by 2 %, or a little brighter. Below, the nearest of "
        "all, each beside its training picture."
    )
    return [note_html(text), f"<div class=charts>{''.join(charts)}</div>", _thumbs(figures)]


def _histogram(title: str, values: NDArray[np.floating], mark: float, most: float, unit: str) -> str:
    """A chart of how many of `values` lie where, with a dashed line at `mark`."""
    low = min(0.0, float(values.min()))
    counts, edges = np.histogram(values, BINS, (low, most))

    def across(value: float) -> float:
        return LEFT + (value - low) / (most - low) * (RIGHT - LEFT)

    def up(count: float) -> float:
        return BOTTOM - count / max(int(counts.max()), 1) * (BOTTOM - TOP)

    parts = [f'<path class=axis d="M{LEFT} {BOTTOM}H{RIGHT}"/>']
    for value in ticks(low, most, 5):
        parts.append(
            f'<text x="{across(value):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{short_number(value)}</text>'
        )
    parts.append(f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{counts.max():,}</text>')
    for count, left, right in zip(counts.tolist(), edges, edges[1:], strict=False):
        if count:
            hover = f"<title>{count:,} from {left:.3g} to {right:.3g}</title>"
            width = max(across(right) - across(left) - 1, 1)
            parts.append(
                f'<rect class=c0 x="{across(left):.1f}" y="{up(count):.1f}" width="{width:.1f}" '
                f'height="{BOTTOM - up(count):.1f}">{hover}</rect>'
            )
    parts.append(f'<path class="mean dashed c7" d="M{across(mark):.1f} {TOP}V{BOTTOM}"/>')
    return (
        f"<figure class=chart><figcaption><span>{escaped(title)}</span><span>{escaped(unit)}</span></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}, {escaped(unit)}">'
        f"{''.join(parts)}</svg></figure>"
    )
