from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from diptych.errors import DiptychError
from diptych.selection import faiss_means, kmedoids, lloyd
from diptych.selection.kmedoids import select


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_faiss_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_means, "find_spec", lambda _: None)
    with pytest.raises(DiptychError, match=r"--kmeans faiss: faiss is not installed; pip install 'diptych\[large\]'"):
        faiss_means.check_installed()


if util.find_spec("faiss") is None:
    pytest.skip("faiss is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmedoids, "SMALL", 100)
    monkeypatch.setattr(lloyd, "PART", 64)


def test_it_is_installed() -> None:
    faiss_means.check_installed()


@pytest.mark.parametrize("seed", range(4))
def test_centres_are_near_the_groups_and_those_that_are_still_stay(seed: int) -> None:
    corners = np.array([[0, 0], [0, 50], [50, 0], [50, 50]], np.float32) + 1000
    sample = (corners[np.arange(400) % 4] + rng().normal(size=(400, 2))).astype(np.float32)
    assert cdist(corners, faiss_means.centres(sample.copy(), sample[:0], 4, seed)).min(1).max() < 0.5
    still = np.array([[1003, 1001], [1049, 1052]], np.float32)
    centres = faiss_means.centres(sample.copy(), still, 4, seed)
    assert centres[:2].tolist() == still.tolist()
    assert cdist(corners[1:3], centres[2:]).min(1).max() < 0.5


def test_centres_that_are_still_do_not_move_meanwhile() -> None:
    # Around 0 stay the six 2s, and the others' mean is 7.37; were 0 to move to 1.71, 4.4 and 4.45 would follow it, and
    # the mean of the rest is 9.33, whatever the first centres.
    sample = np.array([0, 2, 2, 2, 2, 2, 2, 4.4, 4.45, 8, 9, 11], np.float32)[:, None]
    found = {round(float(faiss_means.centres(sample.copy(), sample[:1], 2, seed)[1, 0]), 2) for seed in range(20)}
    assert found == {7.37, 9.33}


@pytest.mark.parametrize("kept", [[], [3, 200]])
def test_the_same_seed_the_same_choice_and_no_worse_than_ours(kept: list[int]) -> None:
    features = (3 * rng(7).normal(size=(12, 5))[rng(8).integers(0, 12, 2000)] + rng(9).normal(size=(2000, 5))).astype(
        "f4"
    )
    chosen = [select(features, 14, rng(seed), kept, "faiss").tolist() for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert set(kept) <= set(chosen[0])
    own = select(features, 14, rng(1), kept)
    costs = [cdist(features, features[rows]).min(1).sum() for rows in (chosen[0], own)]
    assert costs[0] < 1.05 * costs[1]


def test_a_small_set_is_chosen_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmedoids, "SMALL", 500)
    features = rng(3).normal(size=(300, 4)).astype(np.float32)
    assert select(features, 7, rng(), (), "faiss").tolist() == select(features, 7, rng()).tolist()


def test_a_file_of_float16(tmp_path: Path) -> None:
    features = rng(2).normal(size=(400, 6)).astype(np.float16)
    np.save(tmp_path / "f.npy", features)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    by_file = select(mapped, 12, rng(3), [1], "faiss").tolist()
    assert by_file == select(features.astype(np.float32), 12, rng(3), [1], "faiss").tolist()


def test_fewer_different_rows_than_clusters() -> None:
    features = np.array([5] * 150 + [0] * 2 + [30], np.float32)[:, None]
    chosen = select(features, 4, rng(), (), "faiss")
    assert {5, 0, 30} == set(features[chosen].ravel().tolist())
    assert len(set(chosen.tolist())) == 4


@pytest.mark.parametrize(("mib", "rows"), [(0.01, 327), (1, 400)])  # 10,485 bytes are 327 rows of 8 float32
def test_of_a_large_set_a_sample_is_taken(mib: float, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = faiss_means.centres

    def centres(sample: NDArray[Any], *rest: Any) -> NDArray[Any]:
        seen.append(len(sample))
        return original(sample, *rest)

    monkeypatch.setattr(faiss_means, "SAMPLE_MIB", mib)
    monkeypatch.setattr(faiss_means, "centres", centres)
    select(rng(4).normal(size=(400, 8)).astype(np.float32), 5, rng(), (), "faiss")
    assert seen == [rows]
