"""What stands in the JSON files of runs, translators and shards, checked on reading: they may come from anyone."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from diptych.config import Direction, explain
from diptych.errors import DiptychError, reason
from diptych.fitting import Fit
from diptych.reading import leads_out, open_file

MOST_PIXELS = 2**27  # at which a network sees an image: far beyond what any memory would bear


def _stays(name: str) -> str:
    if leads_out(name):
        raise ValueError(f"{name!r} leads out of its folder")
    return name


Byte = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, AfterValidator(_stays)]


class Saved(BaseModel):
    """Frozen, strict about types; what a later version adds is kept."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)


Record = TypeVar("Record", bound=Saved)


def read_record(path: Path, model: type[Record]) -> Record:
    """What a JSON file of the kind `model` holds; raises `DiptychError` saying what is wrong in it."""
    try:
        with open_file(path) as file:
            return record_in(file.read(), str(path), model)
    except OSError as problem:
        raise DiptychError(f"{path}: missing or damaged ({reason(problem)}); bring it back from a copy") from None


def record_in(data: bytes, where: str, model: type[Record]) -> Record:
    """What the bytes of a JSON file hold; raises `DiptychError` saying what is wrong in the file `where`."""
    try:
        return model.model_validate_json(data)
    except ValidationError as problem:
        raise DiptychError(f"{where}: damaged ({explain(problem, model)}); bring it back from a copy") from None


class Checkpoint(Saved):
    """One of checkpoints.json."""

    name: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
    step: Annotated[int, Field(ge=0)]
    metric: str | None
    value: float | None


class Checkpoints(Saved):
    """checkpoints.json of a run."""

    last: Checkpoint
    best: Checkpoint


class Data(Saved):
    """data.json of a run: the names of the images in use."""

    pairs: tuple[tuple[Name, Name], ...]
    unpaired_a: tuple[Name, ...]
    unpaired_b: tuple[Name, ...]
    bits: dict[Literal["a", "b"], Literal[8, 16]] = {"a": 8, "b": 8}


class RunRecord(Saved):
    """run.json: what a resumption compares with, and those that there were."""

    data_sha256: dict[str, str] = {}
    launch: str | None = None
    resumed: tuple[dict[str, Any], ...] = ()


class SavedClasses(Saved):
    """The classes of a domain."""

    ids: Annotated[tuple[Byte, ...], Field(min_length=1)]
    names: tuple[str, ...]
    colours: tuple[tuple[Byte, Byte, Byte], ...]
    void: Annotated[int, Field(ge=0)] | None

    @model_validator(mode="after")
    def _is_a_table(self) -> "SavedClasses":
        if not len(self.ids) == len(self.names) == len(self.colours):
            raise ValueError("not as many ids as names and colours")
        if len(set(self.ids)) < len(self.ids) or len(set(self.colours)) < len(self.colours):
            raise ValueError("an id or a colour stands there twice")
        if self.void is not None and (self.void >= len(self.ids) or len(self.ids) == 1):
            raise ValueError("its void class is none of several")
        return self


class SavedForm(Saved):
    """What the images of a domain are made of."""

    channels: Annotated[int, Field(ge=1, le=4096)] = 3
    bits: Literal[8, 16] = 8


class SavedTranslator(Saved):
    """translator.json. Format 2 names the SHA-256 of every other file; format 1, of the time before, has none."""

    format: Literal[1, 2]
    directions: Annotated[tuple[Direction, ...], Field(min_length=1)]
    direction: Direction
    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    classes: dict[Literal["a", "b"], SavedClasses | None]
    train_mode: bool
    forms: dict[Literal["a", "b"], SavedForm] = {"a": SavedForm(), "b": SavedForm()}
    fit: Fit = "stretch"
    precision: Literal["fp32", "bf16"] = "fp32"
    sha256: dict[str, str] = {}

    @model_validator(mode="after")
    def _belongs_together(self) -> "SavedTranslator":
        if len(set(self.directions)) < len(self.directions) or self.direction not in self.directions:
            raise ValueError(f"direction is {self.direction}, directions are {', '.join(self.directions)}")
        if self.size[0] * self.size[1] > MOST_PIXELS:
            raise ValueError(f"a size of {self.size[0]}x{self.size[1]} pixels")
        if set(self.classes) != {"a", "b"} or set(self.forms) != {"a", "b"}:
            raise ValueError("classes and forms of a and b must both be there")
        return self

    def digest(self, name: str) -> str | None:
        """The SHA-256 of the file `name`; None where the format has none. Raises `DiptychError` where it should."""
        if self.format == 1:
            return None
        if name not in self.sha256:
            raise DiptychError(f"translator.json: names no SHA-256 of {name}; copy the folder again, whole")
        return self.sha256[name]


def _is_one_name(name: str) -> str:
    if len(PurePosixPath(_stays(name)).parts) != 1 or "\\" in name:
        raise ValueError(f"{name!r} is no name of a file beside it")
    return name


Natural = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Side = Literal["a", "b"]
Group = Literal["pairs", "a", "b", "unpaired_a", "unpaired_b"]
"""What a shard holds: pairs, or images of one domain; unpaired_a are those of a that were packed from elsewhere."""


class PackedForm(Saved):
    """What some of the images of a domain are made of, and one of them."""

    channels: Annotated[int, Field(ge=1, le=4096)]
    bits: Literal[8, 16]
    alpha: bool
    such_as: Name


class PackedDomain(Saved):
    """The images of a domain."""

    images: Annotated[int, Field(ge=1)]
    classes: SavedClasses | None
    forms: Annotated[tuple[PackedForm, ...], Field(min_length=1)]


class PackedShard(Saved):
    """A tar file of so many pairs, or images of one domain."""

    name: Annotated[str, AfterValidator(_is_one_name)]
    group: Group
    rows: Annotated[int, Field(ge=1)]
    bytes: Natural
    sha256: Digest


class PackedIndex(Saved):
    """shards.json: what is in the tar files beside it, but for the images one by one, which images.json lists."""

    format: Literal[1]
    domains: dict[Literal["a", "b", "unpaired_a", "unpaired_b"], PackedDomain]
    shards: Annotated[tuple[PackedShard, ...], Field(min_length=1)]
    images_sha256: Digest

    @model_validator(mode="after")
    def _belongs_together(self) -> "PackedIndex":
        if not {"a", "b"} <= set(self.domains):
            raise ValueError("domains of a and b must both be there")
        if len({shard.name for shard in self.shards}) < len(self.shards):
            raise ValueError("a shard stands there twice")
        return self


class PackedColumn(Saved):
    """The images of one side in a shard, in its order: their names when they were files of their own, sizes in pixels,
    and where in the tar file they begin and how long they are, in bytes."""

    names: tuple[str, ...]
    widths: tuple[Annotated[int, Field(ge=1, le=2**31)], ...]
    heights: tuple[Annotated[int, Field(ge=1, le=2**31)], ...]
    starts: tuple[Natural, ...]
    lengths: tuple[Natural, ...]


class PackedImages(Saved):
    """images.json: the columns of each shard, in the order of shards.json; rows of a and b in one shard are pairs."""

    format: Literal[1]
    shards: tuple[dict[Side, PackedColumn], ...]
