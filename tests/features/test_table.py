import errno
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import DiptychError
from diptych.features import table as room
from diptych.features.table import Table


@pytest.mark.parametrize("most", [0, 47, 48])
def test_a_table_in_memory_and_one_in_a_file(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "IN_MEMORY", most)  # of 4 x 3 float32, 48 bytes
    table = Table(tmp_path, 4)
    table.put([2], np.array([7, 8, 9], np.float32))
    table.put([3, 0], np.array([1, 2, 3], np.float32))
    table.put([1], np.array([0.5, -1, 4], np.float32))
    rows = table.array()
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2, 3], [0.5, -1, 4], [7, 8, 9], [1, 2, 3]]
    assert isinstance(rows, np.memmap) == (most < 48)
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, "IN_MEMORY", 0)
    monkeypatch.setattr(room.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(DiptychError, match=r"No space left on device.*DIPTYCH_CACHE"):
        Table(tmp_path, 1).put([0], np.ones(3, np.float32))
