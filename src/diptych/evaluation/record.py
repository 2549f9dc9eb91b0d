"""What is in metrics.json, read back: single numbers by flat names, their intervals, differences, rows of a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diptych.evaluation.bootstrap import Numbers, interval

Record = Mapping[str, Any]
ABSENT_AS_0 = "_absent_as_0"
OF_CLASSES = ("pixel_accuracy", "class_accuracy", "mean_iou", "class_accuracy_absent_as_0", "mean_iou_absent_as_0")
OF_PICTURES = ("l1", "psnr", "ssim", "tolerance_accuracy")
OF_SETS = ("fid", "kid", "kid_se", "precision", "recall")
OF_FCN = tuple(f"{prefix}_{name}" for prefix in ("fcn", "ceiling") for name in OF_CLASSES)
NAMES = (*OF_CLASSES, *OF_PICTURES, "perceptual_distance", *OF_SETS, *OF_FCN)
"""Every name that `flat_scores` may give."""


def flat_scores(record: Record) -> dict[str, float]:
    """The single numbers of a record, by name: what a curve, a table or a study can show.

    The paired scores under their own names; fid, kid, kid_se, precision and recall; and of the FCN-score
    fcn_pixel_accuracy, ceiling_pixel_accuracy and so on. Those without a value are left out.
    """
    found = _single(record["scores"])
    sets = _single(record.get("sets") or {})
    found |= {name: sets[name] for name in OF_SETS if name in sets}
    for prefix, part in _fcn_parts(record):
        found |= {f"{prefix}_{name}": value for name, value in _single(part).items()}
    return found


def flat_intervals(record: Record) -> dict[str, list[float]]:
    """[low, high] by the names of `flat_scores` and `class_scores`, where there is one."""
    found = dict(record.get("intervals") or {})
    found |= (record.get("sets") or {}).get("intervals") or {}
    found |= (record.get("fcn_score") or {}).get("intervals") or {}
    return found


def class_scores(record: Record) -> dict[str, float | None]:
    """The accuracy and IoU of each class by the names that intervals have: "accuracy NAME" and "iou NAME"."""
    by_class = record["scores"].get("per_class", {})
    return {f"{what} {name}": row[what] for what in ("accuracy", "iou") for name, row in by_class.items()}


def differences(
    record: Record, first: Record, replicates: Mapping[str, Numbers], first_replicates: Mapping[str, Numbers]
) -> dict[str, dict[str, Any]]:
    """Name -> {"difference", "interval"} of every number that both records have: this one's minus the first one's.

    The replicates, those of the same resamples, give the paired interval, which is null for numbers without any.
    """
    ours, theirs = _numbers(record), _numbers(first)
    found = {}
    for name, value in ours.items():
        other = theirs.get(name)
        if value is None or other is None or name == "kid_se":
            continue
        paired = name in replicates and name in first_replicates
        bounds = interval(replicates[name] - first_replicates[name]) if paired else None
        found[name] = {"difference": value - other, "interval": bounds}
    return found


def table_rows(record: Record) -> Sequence[tuple[str, str, str]]:
    """Name, value and interval of every number of a record, the classes' IoU last."""
    numbers, intervals = _numbers(record), flat_intervals(record)
    return [(_label(name), _value(numbers[name]), written(intervals.get(name))) for name in _shown([record])]


def comparison_rows(records: Mapping[str, Record], compared: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """Name; the value of each run; of each but the first, its difference to it and the interval of that."""
    numbers = [_numbers(record) for record in records.values()]
    rows = []
    for name in _shown(list(records.values())):
        row = [_label(name), *(_value(found.get(name)) for found in numbers)]
        for entries in compared.values():
            entry = entries.get(name)
            row.append(f"{_number(entry['difference'], '+')} {written(entry['interval'])}".strip() if entry else "")
        rows.append(row)
    return rows


def written(bounds: Sequence[float] | None) -> str:
    """`[low, high]`, or nothing."""
    return f"[{_number(bounds[0])}, {_number(bounds[1])}]" if bounds else ""


def explanation(record: Record) -> list[str]:
    """The lines that must stand below the numbers: how many images, by which protocol, filters, and every warning."""
    lines = [f"{record['n']} images. {record['protocol']}; {record['filter']}."]
    if record.get("bootstrap"):
        bootstrap = record["bootstrap"]
        lines.append(f"[low, high]: {bootstrap['kind']}, {bootstrap['resamples']} resamples, seed {bootstrap['seed']}.")
    if "perceptual" in record:
        lines.append(f"perceptual_distance: {record['perceptual']['backbone']}; {record['perceptual']['protocol']}.")
    if "sets" in record:
        sets = record["sets"]
        lines.append(
            f"Sets: {sets['n_real']} real, {sets['n_generated']} generated images ({sets['images']}); "
            f"{sets['extractor']}; {sets['filter']}; precision and recall with k = {sets['k']}."
        )
        lines += [f"Warning: {warning}." for warning in sets["warnings"]]
    if "fcn_score" in record:
        fcn = record["fcn_score"]
        lines.append(f"FCN-score: {fcn['segmenter']}; {fcn['protocol']}.")
    if "note" in record["scored"]:
        lines.append(f"Note: {record['scored']['note']}.")
    return lines


def _single(scores: Record) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _fcn_parts(record: Record) -> Iterator[tuple[str, Record]]:
    fcn = record.get("fcn_score") or {}
    for prefix, part in (("fcn", "generated"), ("ceiling", "ceiling")):
        if part in fcn:
            yield prefix, fcn[part]


def _numbers(record: Record) -> dict[str, float | None]:
    return {**flat_scores(record), **class_scores(record)}


def _shown(records: Sequence[Record]) -> list[str]:
    """The names that a table shows. Where no class is absent, both conventions give one number, shown once."""
    scores = [flat_scores(record) for record in records]
    names = [
        name
        for name in dict.fromkeys(name for found in scores for name in found)
        if not name.endswith(ABSENT_AS_0)
        or any(found.get(name) != found.get(name.removesuffix(ABSENT_AS_0)) for found in scores)
    ]
    return [*names, *(f"iou {name}" for name in records[0]["scores"].get("per_class", {}))]


def _label(name: str) -> str:
    return name.replace("iou ", "IoU ", 1) if name.startswith("iou ") else name.replace("_", " ")


def _value(value: float | None) -> str:
    return "absent" if value is None else _number(value)


def _number(value: float, sign: str = "") -> str:
    """Four places, or three digits where these would say little."""
    return f"{value:{sign}.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:{sign}.3g}"
