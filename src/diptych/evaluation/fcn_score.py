"""The FCN-score of label -> photo: how well a trained segmenter reads the generated photos (Isola et al., section 3.4).

Beside it stands what the same segmenter makes of the real photos, resized as the generated ones are: the ceiling.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.bands import Bands
from diptych.errors import DiptychError
from diptych.evaluation.bootstrap import Numbers, intervals, replicates
from diptych.evaluation.classes import ClassScores
from diptych.evaluation.scoring import LabelledFiles
from diptych.evaluation.segmenters import Match, load_segmenter, match_classes
from diptych.fitting import fitted, in_words
from diptych.images import class_map_of, open_image, pixels_of, rgb, to_float, to_pixels
from diptych.processes import by_first, shared_out
from diptych.translator import Translator, TranslatorSpec, resized


def fcn_score(
    segmenter: str,
    translator: Translator,
    direction: str,
    files: LabelledFiles,
    *,
    mapping: Path | None,
    device: str = "cpu",
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    resampled: dict[str, Numbers] | None = None,
) -> dict[str, Any]:
    """What `segmenter` reads in the photos that label maps become, scored against these label maps; plain values.

    `files` holds the label maps as inputs and the real photos as truths. `"generated"` is the score, `"ceiling"` that
    of the real photos, which are shrunk to the translator's training size and enlarged again as the generated ones are.
    The intervals of both are named `fcn_...` and `ceiling_...`; a resample has the same images in both. `segmenter` is
    as in `load_segmenter`, `mapping` as in `match_classes`; `"outside"` and `"left_out"` are those of `Match`.
    `resampled` is given each number's value in every resample `(resamples,)`, by its name among the intervals.

    Raises `DiptychError` where `direction` does not lead from a class map to photos, the classes do not match, or a
    label map and its photo differ in shape.
    """
    classes = translator.spec.classes[direction[0]]
    if classes is None or translator.target_classes(direction) is not None:
        raise DiptychError(
            f"the FCN-score is of photos made from a class map, which {direction} does not make; give --direction the "
            "way from labels to photos, or take --segmenter out"
        )
    reader = load_segmenter(segmenter, device)
    match = match_classes(reader.names, classes, mapping)
    generated, ceiling = ClassScores(match.classes), ClassScores(match.classes)

    def read(label_file: Path, photo_file: Path) -> None:
        label, photo = open_image(label_file), open_image(photo_file)
        truth = match.of_truth[class_map_of(label, classes, str(label_file))]  # (H, W)
        if label.size != photo.size:
            raise DiptychError(
                f"{label_file} ({label.size[0]}x{label.size[1]}) and its photo {photo_file} "
                f"({photo.size[0]}x{photo.size[1]}) have different shapes; mend one: they show the same scene "
                "pixel by pixel"
            )
        answer = rgb(Bands(translator.pixels(label, direction)))
        generated.add_map(match.of_segmenter[reader.read(answer)], truth)
        ceiling.add_map(match.of_segmenter[reader.read(_as_if_generated(photo, translator.spec, direction))], truth)

    shared_out(list(zip(files.inputs, files.truths, strict=True)), lambda both: read(*both), progress)
    generated.take_together()
    ceiling.take_together()
    values = by_first(
        lambda: {
            f"{prefix}_{name}": column
            for prefix, scores in (("fcn", generated), ("ceiling", ceiling))
            for name, column in replicates(scores.metrics, len(scores), resamples, seed).items()
        }
    )
    if resampled is not None:
        resampled |= values
    return {
        "segmenter": segmenter,
        "identity": reader.identity,
        "generated": generated.result(),
        "ceiling": ceiling.result(),
        "intervals": intervals(values),
        "n": len(generated),
        "outside": list(match.outside),
        "left_out": list(match.left_out),
        "protocol": _protocol(translator.spec, match, mapping),
    }


def _as_if_generated(photo: Image.Image | Bands, spec: TranslatorSpec, direction: str) -> Image.Image:
    """A real photo as it would be if a perfect generator had made it."""
    form, seen = spec.forms[direction[-1]], fitted(photo.size, spec.size, spec.fit)
    shrunk = torch.from_numpy(to_float(pixels_of(photo, seen.scaled, form=form)))[None]  # (1, C, h, w)
    return rgb(Bands(to_pixels(resized(shrunk, photo.size)[0].numpy(), form.bits)))


def _protocol(spec: TranslatorSpec, match: Match, mapping: Path | None) -> str:
    left_out = f" and {', '.join(match.left_out)}" if match.left_out else ""
    return (
        f"label maps resized {in_words(spec.size, spec.fit)} (nearest) for the generator, its photos resized to "
        "the label map's size (bilinear, antialiased when shrinking), rounded to 8 bits and read by the segmenter "
        "(logits resized bilinearly, the largest wins); ceiling: the real photos shrunk to the generator's size "
        "(bicubic), then resized and read likewise; classes matched by name"
        f"{f' and {mapping.name}' if mapping else ''}; one confusion "
        f"matrix over all images; void{left_out} ignored; an answer outside these classes is wrong; class accuracy "
        "averages the classes that the truth holds, IoU those that truth or prediction holds; absent_as_0, as in the "
        "papers: averages all classes, an absent one scoring 0"
    )
