import pytest
import torch

from diptych.errors import DiptychError
from diptych.pool import ImagePool


def images(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def test_size_zero_answers_with_the_new_images() -> None:
    new = images(1, 2)
    assert ImagePool(0, seed=0).query(new) is new


def test_a_filling_pool_answers_with_the_new_images_and_keeps_them() -> None:
    pool = ImagePool(3, seed=0)
    assert pool.query(images(1, 2)).flatten().tolist() == [1, 2]
    assert [image.item() for image in pool.images] == [1, 2]


def test_a_full_pool_swaps_half_of_the_time() -> None:
    pool = ImagePool(10, seed=0)
    pool.query(images(*range(10)))
    old = 0
    for value in range(10, 2010):
        held = {image.item() for image in pool.images}
        answer = pool.query(images(value)).item()
        if answer != value:
            old += 1
            assert answer in held
            assert value in {image.item() for image in pool.images}
            assert answer not in {image.item() for image in pool.images}
        else:
            assert {image.item() for image in pool.images} == held
        assert len(pool.images) == 10
    assert 900 < old < 1100


def test_what_is_kept_is_detached_and_not_shared() -> None:
    pool = ImagePool(1, seed=0)
    new = images(1).requires_grad_()
    answer = pool.query(new)
    assert not answer.requires_grad
    new.data.fill_(7)
    assert pool.images[0].item() == 1


def test_state_restores_images_and_draws() -> None:
    pool = ImagePool(2, seed=3)
    for value in range(5):
        pool.query(images(value))
    other = ImagePool(2, seed=99)
    other.load_state_dict(pool.state_dict(), torch.device("cpu"))
    for value in range(5, 40):
        assert torch.equal(pool.query(images(value)), other.query(images(value)))


def test_an_empty_pool_restores_empty() -> None:
    other = ImagePool(2, seed=1)
    other.query(images(1))
    other.load_state_dict(ImagePool(2, seed=0).state_dict(), torch.device("cpu"))
    assert other.images == []


@pytest.mark.parametrize("forged", [torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 1).double()])
def test_a_forged_memory_is_refused(forged: torch.Tensor) -> None:
    pool = ImagePool(2, seed=0)
    pool.load_state_dict(pool.state_dict() | {"images": forged}, torch.device("cpu"))
    with pytest.raises(DiptychError, match="checkpoint is of another run"):
        pool.query(images(1))
