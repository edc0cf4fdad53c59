import torch

from isocline.data import digits


def test_digits_are_all_there_scaled_and_typed() -> None:
    data = digits()
    assert data.train_x.shape == (1437, 1, 8, 8)
    assert data.test_x.shape == (360, 1, 8, 8)
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert x.dtype is torch.float32
        assert y.dtype is torch.int64
        assert x.min() == 0
        assert x.max() == 1
        assert len(x) == len(y)


def test_the_split_is_stratified_and_fixed() -> None:
    data, again = digits(), digits()
    total = data.train_y.bincount() + data.test_y.bincount()
    assert (data.test_y.bincount() - total * 360 / 1797).abs().max() < 1
    assert torch.equal(data.test_x, again.test_x)
    # Published numbers depend on this very split.
    assert data.test_y[:12].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6]


def test_no_image_is_in_both_sets() -> None:
    data = digits()
    train = {tuple(x) for x in data.train_x.flatten(1).tolist()}
    assert not any(tuple(x) in train for x in data.test_x.flatten(1).tolist())


def test_first_limits_both_sets() -> None:
    data, full = digits().first(7), digits()
    assert torch.equal(data.train_x, full.train_x[:7])
    assert torch.equal(data.test_y, full.test_y[:7])
