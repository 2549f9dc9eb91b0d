"""`diptych import`: a public dataset, laid out for `--data`."""

from collections.abc import Callable
from pathlib import Path

from diptych.config import ImportSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import alone_in, check_out, write_json
from diptych.importers import IMPORTERS
from diptych.importers.archives import is_archive, unpack
from diptych.importers.download import fetch, file_name
from diptych.importers.labelled import BEGUN, Labelled, write_labelled
from diptych.layouts import FILE, write_layout
from diptych.reading import read_json

MB = 10**6


def import_dataset(settings: ImportSettings, display: Display | None = None) -> Path:
    """Make `settings.out` a dataset for `--data`; return the path of its dataset.yaml, which is written last.

    Links and an index are made where they suffice, and class maps written where ids change. Stopped at any instant, the
    same call goes on. Raises `DiptychError` for a source that is not the dataset, whole, and for a download or an
    archive that is damaged or not to be trusted.
    """
    display = display or Silent()
    importer, out = IMPORTERS[settings.name], settings.out
    _check_source(settings)
    check_out(out)
    if (out / FILE).exists():
        raise DiptychError(f"{out / FILE} exists: a dataset is there already; choose another --out")
    begun = {"name": settings.name, "source": _absolute(settings.source)}
    made = {path.name for path in out.iterdir()} - {".lock", BEGUN} if out.exists() else set()
    if made and _begun(out) != begun:
        raise DiptychError(f"{out}: holds something else already; choose another --out, or empty it")
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out, "import"):
        write_json(out / BEGUN, begun)
        found = importer.read(_source_folder(settings, display))
        if isinstance(found, Labelled):
            found = write_labelled(found, out, display)
        else:
            display.note(found.recognised)
        write_layout(found, out, f"{settings.name}: {importer.about}")
        (out / BEGUN).unlink()
    return out / FILE


def _check_source(settings: ImportSettings) -> None:
    importer, source = IMPORTERS[settings.name], settings.source
    if source is not None and _is_address(source):
        if settings.download:
            raise DiptychError(f"{source}: is downloaded from there anyway; take --download out")
        for address in _addresses(settings):
            file_name(address)
    elif settings.download and not importer.archives:
        raise DiptychError(f"{settings.name} is not open to download; {importer.where}, and give that as SOURCE")
    elif source is None and not settings.download:
        raise DiptychError(f"import {settings.name} needs SOURCE, where the dataset is; {importer.where}")
    elif source is not None and not settings.download and not Path(source).exists():
        raise DiptychError(f"{source}: no such file or folder; {importer.where}")
    elif source is not None and Path(source).is_file() and (settings.download or not is_archive(Path(source))):
        raise DiptychError(
            f"{source}: is a file; give the folder that holds the dataset, or a zip or tar archive of it"
        )


def _is_address(source: str) -> bool:
    return "://" in source


def _addresses(settings: ImportSettings) -> list[str]:
    """What is to be downloaded."""
    source, archives = settings.source, IMPORTERS[settings.name].archives
    if source is None or not _is_address(source):
        return list(archives)
    if not source.endswith("/"):
        return [source]
    if not archives:
        raise DiptychError(f"{source}: the archives of {settings.name} have no fixed names; give the address of one")
    return [source + file_name(archive) for archive in archives]


def _absolute(source: str | None) -> str | None:
    return source if source is None or _is_address(source) else str(Path(source).absolute())


def _begun(out: Path) -> object:
    """What an import that was stopped has said of itself."""
    try:
        return read_json(out / BEGUN)
    except DiptychError:
        return None


def _source_folder(settings: ImportSettings, display: Display) -> Path:
    """The folder that holds the dataset, after downloading and unpacking what there is to."""
    source, store = settings.source, settings.out / "download"
    if source is not None and not _is_address(source):
        if not settings.download:
            if Path(source).is_file():
                _unpack_once(Path(source), store / settings.name, display)
                return store / settings.name
            return Path(source)
        store = Path(source)
    for address in _addresses(settings):
        name = file_name(address)
        if (store / name).exists() or not _unpacked(name, store / settings.name).exists():
            archive = fetch(address, store, _in_megabytes(display, f"downloading {name}"))
            _unpack_once(archive, store / settings.name, display)
    return store / settings.name


def _unpacked(archive: str, folder: Path) -> Path:
    """Where in `folder` an archive is unpacked: the parts of one dataset beside each other."""
    return folder / archive.partition(".")[0]


def _unpack_once(archive: Path, folder: Path, display: Display) -> None:
    target = _unpacked(archive.name, folder)
    if not target.exists():
        unpack(archive, target, _in_megabytes(display, f"unpacking {archive.name}"))


def _in_megabytes(display: Display, what: str) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        display.count(f"{what}, MB", done // MB, -(-total // MB))

    return progress
