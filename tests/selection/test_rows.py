import numpy as np
import pytest

from diptych.selection.rows import RowsOf

FEATURES = np.arange(20, dtype=np.float16).reshape(10, 2)
ROWS = np.array([1, 4, 5, 9])


def test_it_is_indexed_as_a_copy_is() -> None:
    some, copy = RowsOf(FEATURES, ROWS), FEATURES[ROWS]
    assert (len(some), some.shape, some.dtype) == (4, (4, 2), np.float16)
    for which in (0, 3, -1, slice(1, 3), slice(2, 99), np.array([2, 0]), np.array([], np.int64)):
        assert some[which].tolist() == copy[which].tolist()
    assert np.asarray(some, np.float32).tolist() == copy.tolist()
    assert np.asarray(some, np.float32).dtype == np.float32
    with pytest.raises(IndexError):
        some[4]


def test_rows_of_rows() -> None:
    assert RowsOf(RowsOf(FEATURES, ROWS), np.array([1, 3]))[:].tolist() == FEATURES[[4, 9]].tolist()
