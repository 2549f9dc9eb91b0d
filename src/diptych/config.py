"""Every setting of every command: its name, type, default, limits and, as its docstring, its line in `--help`.

A training setting whose default is None gets its value from the method or the network it concerns; setting it where it
has no meaning is an error.
"""

import reprlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from tyro.conf import Positional, arg

from diptych.errors import nearest

Count = Annotated[int, Field(ge=1)]
Direction = Literal["a_to_b", "b_to_a"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Dataset = Literal[
    "cityscapes",
    "camvid",
    "gta5",
    "synscapes",
    "mapillary-vistas",
    "facades",
    "maps",
    "edges2shoes",
    "horse2zebra",
]


def shown(metavar: str) -> object:
    """Marks a setting whose docstring says what happens unless it is given: `--help` shows `metavar` and no None."""
    return arg(help_behavior_hint="", metavar=metavar)


class Settings(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,  # YAML reads `unpaired: 200` and `size: 256` as numbers
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        for field in cls.model_fields.values():  # --help breaks lines by itself
            field.description = " ".join((field.description or "").split()) or None


def parse_size(text: str) -> tuple[int, int]:
    """`"128x96"` or `"256"` -> (width, height) in pixels; raises ValueError for anything else."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) <= 65536 for part in parts):
        raise ValueError(f"{text!r} is no size; write WIDTHxHEIGHT, such as 128x96")
    return int(parts[0]), int(parts[-1])


class OptimSettings(Settings):
    """Adam, with the rate constant over the first half of the steps and falling linearly to 0 over the second."""

    lr: float = Field(default=2e-4, gt=0, allow_inf_nan=False)
    """Learning rate of the first half."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the mean of squared gradients."""
    clip: Annotated[float | None, shown("NORM")] = Field(default=None, gt=0, allow_inf_nan=False)
    """Scale the gradients of the generators, and those of the judges, down to this norm where theirs is larger
    (default: never)."""


class JudgeSettings(Settings):
    """The PatchGAN judges."""

    patch: Literal[1, 16, 34, 70, 142, 286] = 70
    """Receptive field in pixels."""
    ndf: Annotated[int | None, shown("N")] = Field(default=None, ge=1, le=4096)
    """Channels of the first layer (default: as --ngf)."""


class TrainSettings(Settings):
    """Learn to translate from a few pairs and everything unpaired."""

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """pix2pix or supervised (pairs only), cyclegan (unpaired only), shukla or tripathy (both)."""
    data: Annotated[str | None, shown("PATH|URL")] = None
    """A dataset as it lies on disk: what diptych import made, trainA and trainB, train and val of side-by-side images,
    folders a and b, or a CSV of pairs in two folders beside it; gives --a, --b, --val-a, --val-b, their classes and a
    CSV of pairs, unless said otherwise. Or shards that diptych pack made, in a folder or at an address such as
    s3://bucket/folder."""
    swap: bool = False
    """Take the domains of --data the other way round: what would be b is a."""
    a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the images of domain a; FOLDER::left and FOLDER::right are the halves of side-by-side images."""
    b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the images of domain b."""
    out: Path
    """Folder of the run; it must not hold one yet."""

    a_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain a is a class map."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain b is a class map."""
    a_channels: Count = 3
    """What the images of a are: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; more are TIFFs of just so many bands. Others
    are converted. They have 8 bits, or 16 if one file has."""
    b_channels: Count = 3
    """What the images of b are."""
    pairs: Annotated[str | None, shown("CSV|N|all|none")] = None
    """A pairs.csv, none, all (same stems; of shards, the pairs they hold), or a number: so many at random (default: all
    where pairs are all there is or shards hold some, else none)."""
    unpaired: Annotated[str | None, shown("CSV|N|all")] = None
    """How many images of each side the unpaired passes use, at random; all; or a CSV of them (default: all)."""
    unpaired_a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain a, such as another dataset's (default: --a)."""
    unpaired_b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain b, such as label maps of another source (default: --b)."""
    unpaired_excludes_pairs: bool = False
    """Leave the paired images out of the unpaired passes; otherwise they stay in, their pairing hidden."""
    skip_unreadable: bool = False
    """Go on without the files that cannot be read, instead of stopping before training."""

    direction: Direction = "a_to_b"
    """What a one-way method learns, and which way is validated and previewed."""
    size: str = "256x256"
    """Training size, WIDTHxHEIGHT in pixels: what is cropped and what the network sees."""
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    """How images of another shape become the size: stretched to it; scaled to cover it and cropped; or scaled to lie
    within it, beyond their edges mirrored. Translations have the input's shape, whole and without bars."""
    jitter: float = Field(default=286 / 256, ge=1, le=4)
    """Images are loaded at this multiple of the size, then cropped at random."""
    resample: Literal["bicubic", "nearest"] = "bicubic"
    """How photos are resized to it; class maps always take the nearest pixel."""
    flip: bool = True
    """Mirror half of the images at random; a pair is mirrored together."""
    steps: Count = 10_000
    """Training steps; one step is one update of every network."""
    batch_size: Count = 1
    """Images of each domain per step."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the weights at the start, the order of images, crops, flips and pools."""
    rhythm: Annotated[str | None, shown("NAME")] = None
    """Order of batches: pairs (pix2pix, supervised), unpaired (cyclegan), passes (shukla: passes over the pairs and
    over the unpaired images take turns), phases (tripathy: first pairs, then unpaired images), or mixed (half of every
    batch, rounded down, are pairs); shukla and tripathy take the last three."""
    balance: Annotated[float | None, shown("FACTOR")] = Field(default=None, gt=0, le=1e6)
    """How many times a paired pass goes over the pairs; 1 leaves the passes unbalanced (default: as many as make it as
    long as the unpaired pass)."""
    paired_steps: Annotated[int | None, shown("N")] = Field(default=None, ge=0)
    """Steps of the paired phase, before the unpaired one (default: a quarter of --steps)."""

    generator: Annotated[Literal["resnet", "unet", "fcn8s"] | None, shown("resnet|unet|fcn8s")] = None
    """Kind of generator (default: unet for pix2pix, else resnet); fcn8s is the plain segmentation network."""
    blocks: Annotated[int | None, shown("N")] = Field(default=None, ge=1, le=256)
    """Residual blocks of the resnet (default: 9, the papers' for 256 px; 6 is theirs for 128 px)."""
    depth: Annotated[int | None, shown("N")] = Field(default=None, ge=2, le=12)
    """Levels of the unet; 2**depth must divide the size (default: 8)."""
    skips: Annotated[bool | None, shown("True|False")] = None
    """Skip connections of the unet (default: on)."""
    leak: Annotated[float | None, shown("SLOPE")] = Field(default=None, ge=0, lt=1)
    """Slope of the unet encoder's LeakyReLU; 0 makes it a ReLU (default: 0.2)."""
    encoder_weights: Annotated[str | None, shown("PATH|HUB")] = None
    """ImageNet weights of VGG-16 for the fcn8s: a .pth or .safetensors file, or a hub name such as timm/vgg16.tv_in1k
    (default: none, it starts from chance)."""
    ngf: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels of the generators' first layer."""
    norm: Annotated[Literal["instance", "batch"] | None, shown("instance|batch")] = None
    """Normalisation of all networks (default: batch for pix2pix, else instance)."""
    dropout: Annotated[bool | None, shown("True|False")] = None
    """Dropout 0.5 in the generators; a unet of depth 5 or less has no layer for it (default: on for pix2pix)."""
    translate_in_train_mode: Annotated[bool | None, shown("True|False")] = None
    """Keep dropout and batch statistics alive when translating, as in the paper (default: on for pix2pix)."""
    judge: JudgeSettings = JudgeSettings()

    adversarial: Annotated[
        Literal["vanilla", "lsgan", "hinge", "rsgan", "ralsgan"] | None, shown("vanilla|lsgan|hinge|rsgan|ralsgan")
    ] = None
    """Adversarial objective (default: vanilla for pix2pix, rsgan for shukla, lsgan for cyclegan and tripathy)."""
    reconstruction_l2: Annotated[float | None, shown("SHARE")] = Field(default=None, ge=0, le=1)
    """Distance of a translation to its true partner: 0 is L1, 1 is L2 (mean square), 0.5 half of each (default: 0)."""
    cycle_l2: Annotated[float | None, shown("SHARE")] = Field(default=None, ge=0, le=1)
    """The same for the cycle term (default: 0)."""
    loss: Annotated[Literal["pixel", "cross_entropy"] | None, shown("pixel|cross_entropy")] = None
    """What supervised learns from, and shukla from true pairs: colours by pixel distance, or class maps by
    cross-entropy, the generator ending in a logit for each class (default: pixel for shukla, as its paper has it;
    cross_entropy for supervised where the target is a class map)."""
    perceptual: Annotated[str | None, shown("BACKBONE")] = None
    """Add the distance of a frozen backbone's features to the true partner's: resnet50, a transformers hub name or
    folder (default: none)."""
    pool_size: Annotated[int | None, shown("N")] = Field(default=None, ge=0)
    """Past fakes remembered for each unconditional judge (default: 50)."""
    paired_pool_size: Annotated[int | None, shown("N")] = Field(default=None, ge=0)
    """Give paired batches pools of their own, of this size (default: one pool for all)."""
    pool_reals: bool = False
    """In the generators' relativistic term, compare with real images out of pools of the same sizes."""
    weights: Annotated[dict[str, float], shown("NAME VALUE ...")] = Field(default={})
    """Weights of terms, NAME VALUE ..., on top of the method's; --dry-run shows them all."""
    optim: OptimSettings = OptimSettings()

    val_a: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain a."""
    val_b: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain b; images with the same stem as in --val-a are the truth."""
    val_every: Count = 500
    """Validate, preview and save a checkpoint every so many steps, and at the end."""
    log_every: Count = 20
    """Log the mean of each term every so many steps."""
    keep: Count = 2
    """How many of the last checkpoints stay on disk; the best always does."""
    cache: Literal["memory", "disk"] = "memory"
    """Where decoded images are kept: memory, or a file in the cache folder ($DIPTYCH_CACHE), which leaves no trace."""
    cache_gib: float = Field(default=2.0, ge=0, le=1e6)
    """So many GiB of them; what does not fit is decoded each time."""
    shard_cache_gib: float = Field(default=16.0, gt=0, le=1e6)
    """So many GiB of shards that come from an address are kept in the cache folder."""
    init_from: Annotated[Path | None, shown("PATH")] = None
    """Start the generators from this run's instead of from chance."""
    device: Device = "auto"
    """Where to train: auto takes cuda, then mps, then cpu."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the processor has it."""
    compile: bool = False
    """Fuse layers by torch's compiler: a third less memory with instance norm, after a minute of compiling at the
    start; wants a C++ compiler."""

    @field_validator("data", mode="before")
    @classmethod
    def _data_may_be_a_path(cls, data: object) -> object:
        return str(data) if isinstance(data, Path) else data

    @field_validator("size")
    @classmethod
    def _size_is_readable(cls, size: str) -> str:
        parse_size(size)
        return size

    @field_validator("weights")
    @classmethod
    def _weights_are_finite(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"{name} is {weight}; a weight is 0 or more")
        return weights


class CheckSettings(Settings):
    """Look a dataset over before training on it: unreadable, doubled, leaked and misplaced images, classes, pairs that
    do not look like pairs; writes one page. Exit code 0, or 1 where something would stop a training."""

    data: Annotated[Positional[Path | None], arg(metavar="[DATA]", help_behavior_hint="")] = None
    """A dataset as diptych train takes it with --data; or give --a and what else there is."""
    out: Path
    """Folder for check.html and check.json."""
    swap: bool = False
    """Take the domains of DATA the other way round."""
    a: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain a."""
    b: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain b; images of the same stem are taken for pairs."""
    a_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain a is a class map."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain b is a class map."""
    a_channels: Count = 3
    """Channels that a training would give the images of domain a."""
    b_channels: Count = 3
    """Channels that a training would give the images of domain b."""
    pairs: Annotated[Path | None, shown("CSV")] = None
    """CSV of the training pairs (default: same stems)."""
    val_a: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain a."""
    val_b: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain b."""
    test_a: Annotated[Path | None, shown("PATH")] = None
    """Test folder of domain a."""
    test_b: Annotated[Path | None, shown("PATH")] = None
    """Test folder of domain b."""
    unpaired_a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain a, if they lie elsewhere."""
    unpaired_b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain b, if they lie elsewhere."""
    overwrite: bool = False
    """Replace an earlier check in the same folder."""


class PackSettings(Settings):
    """Write a dataset as shards (tar files as WebDataset has them, and an index), for datasets too large for folders;
    diptych train --data takes them, from a folder or an address."""

    out: Path
    """Folder for the shards; it must not be there yet, and appears once all of them are whole."""
    data: Annotated[Path | None, shown("PATH")] = None
    """A dataset as diptych train takes it: gives --a, --b, their classes and a CSV of pairs, unless said otherwise."""
    swap: bool = False
    """Take the domains of --data the other way round."""
    a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the images of domain a; FOLDER::left and FOLDER::right are the halves of side-by-side images, which are
    cut out and written as PNG. All other files are copied as they are."""
    b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the images of domain b."""
    a_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain a is a class map."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain b is a class map."""
    a_channels: Count = 3
    """Channels that a training will give the images of a."""
    b_channels: Count = 3
    """Channels that a training will give the images of b."""
    pairs: Annotated[str | None, shown("CSV|N|all|none")] = None
    """Which images are pairs, and lie together: a pairs.csv, none, all (same stems), or so many of those at random
    (default: the CSV of --data, else same stems)."""
    unpaired_a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain a, if they lie elsewhere."""
    unpaired_b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain b, if they lie elsewhere."""
    skip_unreadable: bool = False
    """Leave out the files that cannot be read, instead of stopping before anything is written."""
    shard_mb: float = Field(default=128, gt=0, le=8000)
    """Megabytes of a shard, about; four are drawn from at a time, so that more of them mix better."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the order of images in the shards, and which --pairs N are drawn; the same call gives the same bytes."""


class SelectSettings(Settings):
    """Say which images are worth pairing: writes pairs.csv, a contact sheet and a map of all images."""

    photos: Annotated[Positional[Path], arg(metavar="PHOTOS")]
    """Folder of the images to choose from."""
    out: Path
    """Folder for pairs.csv, chosen.png and map.png; it must not hold a pairs.csv yet."""
    budget: int = 20
    """How many pairs you can afford."""
    features: str = "resnet50"
    """resnet50 (the paper's), a transformers vision backbone by hub name or folder, descriptor (no download), or your
    own FILE.npy, an array (images, numbers) of float16 or float32 that may be larger than memory. FILE.txt beside it
    names the image of each row, one a line; without it the rows are all images of PHOTOS, sorted by name."""
    selector: Literal["kmedoids", "random"] = "kmedoids"
    """How to choose."""
    kmeans: Literal["own", "faiss"] = "own"
    """What finds the clusters of more than 10,000 images: faiss wants pip install 'diptych[large]'."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The same call gives the same file."""
    partners: Annotated[Path | None, shown("PATH")] = None
    """Folder of partners that exist already; column b is filled where the stem is the same."""
    unpaired: Annotated[Count | None, shown("N")] = None
    """First choose so many for the unpaired passes, written to unpaired.csv; then the budget among them (the paper:
    200, and 20 of those)."""
    within: Annotated[Path | None, shown("PATH")] = None
    """CSV of an earlier selection: choose among its images only."""
    given: Annotated[Path | None, shown("PATH")] = None
    """CSV of pairs you have: they stay, count towards the budget, and the rest is chosen around them."""
    skip_unreadable: bool = False
    """Go on without the files that cannot be read."""
    device: Device = "auto"
    """Where the backbone runs."""


class ResumeSettings(Settings):
    """Go on with an interrupted run, or past the end of a finished one."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of the run."""
    steps: Annotated[Count | None, shown("N")] = None
    """New total number of steps; the learning rate's schedule is the one of a run of that length, while phases still
    change at the step at which they did."""
    device: Annotated[Device | None, shown("auto|cpu|cuda|mps")] = None
    """Where to train (default: as the run was started)."""
    lr_scale: Annotated[float | None, shown("FACTOR")] = Field(default=None, gt=0, allow_inf_nan=False)
    """Times all learning rates, from here on to the end of the run; given again it multiplies again."""
    from_step: Annotated[Count | None, shown("STEP")] = None
    """Go back to the checkpoint of that step, one of those kept, and undo what came later (default: the last)."""


class TranslateSettings(Settings):
    """Translate an image or a folder of images with a trained run."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of the run."""
    images: Annotated[Positional[Path], arg(metavar="IMAGES")]
    """An image or a folder; any size, any channels that become the run's."""
    out: Path
    """Folder for the translations, PNG (TIFF beyond four channels), named like the inputs."""
    direction: Annotated[Direction | None, shown("a_to_b|b_to_a")] = None
    """Which way (default: the run's own)."""
    at: Literal["training", "native"] = "training"
    """Size at which the network sees an image: the training size, or the image's own."""
    tile: Annotated[int | None, shown("PIXELS")] = Field(default=None, ge=32, le=65536)
    """With --at native: compute the layers of larger images in windows of so many pixels a side, with scratch files in
    --out; the same to rounding (default: 512 where memory would not do, else the whole image at once)."""
    max_megapixels: Annotated[float | None, shown("N")] = Field(default=None, gt=0, allow_inf_nan=False)
    """Refuse images of more, which may be decompression bombs where a stranger made them (default: 89)."""
    raw: bool = False
    """For class maps: write the colours as generated (for class logits, the colours to be expected) instead of a
    palette PNG of class ids."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run."""
    overwrite: bool = False
    """Replace translations that are already there."""
    skip_unreadable: bool = False
    """Go on without the files that cannot be read."""
    device: Device = "auto"
    """Where to run."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto takes bf16 where the run was trained in it and the processor has it; at their own size images are always
    seen in fp32."""


class EvaluateSettings(Settings):
    """Score runs on a labelled folder, or a folder of translations against the truth; several runs are compared."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="[RUN ...]", help_behavior_hint="")] = ()
    """Folder of the run; of several, each is scored on the same images and set beside the first (or give
    --generated)."""
    generated: Annotated[Path | None, shown("PATH")] = None
    """Folder of translations to score instead of a run."""
    data: Annotated[Path | None, shown("PATH")] = None
    """A dataset as diptych train takes it: gives --a and --b, its test images, or validation where it has no test."""
    swap: bool = False
    """Take the domains of --data the other way round."""
    a: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain a."""
    b: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain b; files with the same stem belong together."""
    unpaired: bool = False
    """The folders hold no pairs: translate one and compare the sets alone (--extractor)."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv, with --generated, if the truth is a class map."""
    direction: Annotated[Direction | None, shown("a_to_b|b_to_a")] = None
    """Which way a run translates (default: the run's own)."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run."""
    extractor: Annotated[str | None, shown("NAME")] = None
    """Compare the sets, too, by FID, KID, precision and recall on these features: inception (or the file of its
    weights), resnet50 or another transformers vision backbone by hub name or folder, or descriptor (no download)."""
    perceptual: Annotated[str | None, shown("BACKBONE")] = None
    """Measure the perceptual distance, too, in the hidden states of resnet50 or another transformers vision backbone
    by hub name or folder."""
    segmenter: Annotated[str | None, shown("NAME|RUN")] = None
    """From labels to photos: measure the FCN-score, too, with a semantic segmenter of transformers by hub name or
    folder, or a run that has learned photos to labels."""
    mapping: Annotated[Path | None, shown("CSV")] = None
    """Which class of the segmenter (column segmenter) is which of classes.csv (column class), where names differ."""
    resamples: Annotated[int, Field(ge=0)] = 1000
    """Resamples of the images behind every 95 % interval; 0 for no intervals."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the resamples; the same call gives the same numbers."""
    out: Annotated[Path | None, shown("PATH")] = None
    """Folder for metrics.json, the picture of the confusion matrix and, with --extractor or --segmenter, the
    translations (default: only the table is printed)."""
    overwrite: bool = False
    """Replace what is already there."""
    device: Device = "auto"
    """Where to run."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """As for diptych translate."""


class ImportWeightsSettings(Settings):
    """Turn generators trained with the public pytorch-CycleGAN-and-pix2pix code into a translator."""

    out: Path
    """Folder for the translator; it must not exist yet."""
    a_to_b: Annotated[Path | None, shown("PTH")] = None
    """Its generator from a to b: latest_net_G_A.pth (CycleGAN) or latest_net_G.pth (pix2pix)."""
    b_to_a: Annotated[Path | None, shown("PTH")] = None
    """Its generator from b to a: latest_net_G_B.pth (CycleGAN), or latest_net_G.pth trained with BtoA."""
    size: str = "256x256"
    """Size at which it sees images, WIDTHxHEIGHT in pixels."""
    a_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain a is a class map."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain b is a class map."""
    translate_in_train_mode: Annotated[bool | None, shown("True|False")] = None
    """Keep dropout and batch statistics alive when translating, as that code does unless given --eval (default: on
    where the generator has batch norm)."""

    @field_validator("size")
    @classmethod
    def _size_is_readable(cls, size: str) -> str:
        parse_size(size)
        return size


class ImportSettings(Settings):
    """Lay a public dataset out for --data: links, an index and, where ids change, new class maps. Stopped, it goes on
    where it was."""

    name: Annotated[Positional[Dataset], arg(metavar="NAME", help_behavior_hint="")]
    """cityscapes, camvid, gta5, synscapes, mapillary-vistas (road scenes and their classes), facades, maps,
    edges2shoes (side-by-side images) or horse2zebra."""
    source: Annotated[Positional[str | None], arg(metavar="[SOURCE]", help_behavior_hint="")] = None
    """Where it is: its folder as unpacked, an archive (zip, tar), the http(s) address of one or, with / at the end, of
    a folder of its archives; with --download, the folder for what is fetched (default: OUT/download)."""
    out: Path
    """Folder for dataset.yaml and all it names; it must not hold one yet."""
    download: bool = False
    """Fetch it from where its authors put it; goes on with what is there already."""


class DemoSettings(Settings):
    """See the whole of it in a few minutes: scenes, selection, training, scores and a report, without any download."""

    out: Path = Path("demo")
    """Folder for everything the demo makes."""
    budget: Annotated[int, Field(ge=2, le=64)] = 8
    """Pairs to choose."""
    steps: Count = 440
    """Training steps of each of the two runs; the default ends after a paired pass."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of scenes, selection and training."""
    overwrite: bool = False
    """Replace an earlier demo in the same folder."""


class StudySettings(Settings):
    """Work through a grid of runs, to one table (mean ± std over seeds) and one page. Stop it at any instant; started
    again it goes on, and tries failed runs once more."""

    study: Annotated[Positional[str], arg(metavar="FILE|NAME")]
    """YAML file of a study, or one that comes with diptych (a wrong name lists them all)."""
    out: Path
    """Folder of the study: selections, runs, scores, table.md, table.csv, table.json, curves as SVG and index.html."""
    only: Annotated[tuple[str, ...], shown("PATTERN ...")] = ()
    """Work on the runs alone whose names match one of these patterns, such as 'hybrid--*'; the table shows all."""
    dry_run: bool = False
    """Print all runs with their steps, about how long they take here and what is done already, and stop."""
    jobs: Annotated[Count | None, shown("N")] = None
    """Runs at a time; they share the processor's cores (default: one, or one for each of --devices)."""
    devices: Annotated[str | None, shown("cpu|cuda:0,cuda:1,...")] = None
    """Where to train, with commas; the runs at work are dealt out to them (default: as the study says)."""

    data: Annotated[Path | None, shown("PATH")] = None
    """A dataset as diptych train takes it, but for a CSV of pairs; this and the following take the place of what the
    study says under data, in all runs whose axes or rows do not say it themselves."""
    a: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain a, before that of --data; so the others."""
    b: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain b."""
    a_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain a is a class map."""
    b_classes: Annotated[Path | None, shown("PATH")] = None
    """classes.csv (id,name,red,green,blue), if domain b is a class map."""
    val_a: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain a, scored where the study has no test folders."""
    val_b: Annotated[Path | None, shown("PATH")] = None
    """Validation folder of domain b."""
    test_a: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain a that is scored in place of --val-a."""
    test_b: Annotated[Path | None, shown("PATH")] = None
    """Folder of domain b that is scored in place of --val-b."""
    unpaired_a: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain a, for the methods that take some."""
    unpaired_b: Annotated[Path | None, shown("PATH")] = None
    """Folder of the unpaired images of domain b, for the methods that take some."""


def setting_names(model: type[BaseModel]) -> list[str]:
    """The names of all settings of `model`, those in groups with a dot: `optim.lr`."""
    names = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += [f"{name}.{inner}" for inner in setting_names(field.annotation)]
        else:
            names.append(name)
    return names


_SHORT = reprlib.Repr()  # whose limits are arguments from Python 3.12 on
_SHORT.maxstring = _SHORT.maxother = 200  # of what someone has written in place of a value


def explain(problem: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong, in one line: a wrong name with the nearest right one, a wrong value with what may be."""
    first = problem.errors(include_url=False)[0]
    # The command line builds each group of settings by itself: then the problem does not know the group's name.
    groups = {getattr(field.annotation, "__name__", ""): name for name, field in model.model_fields.items()}
    path = [groups[problem.title]] if problem.title in groups else []
    name = ".".join([*path, *(str(part) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name!r}{nearest(name, setting_names(model))}"
    if first["type"] == "missing":
        return f"the setting {name!r} is missing"
    if first["type"] == "value_error":
        return f"{name}: {first['msg'].removeprefix('Value error, ')}"
    what = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    if first["type"] == "json_invalid":
        return what
    return f"{name}: {what} (it is {_SHORT.repr(first['input'])})"
