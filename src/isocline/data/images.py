"""Images with labels, split into training and test sets."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """A labelled image data set.

    Attributes:
        train_x: Training images, float32 of shape (N, 1, height, width), 0 is background and 1 full ink.
        train_y: Training labels, int64 of shape (N,), from 0 to 9.
        test_x: Test images, as `train_x`.
        test_y: Test labels, as `train_y`.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def to(self, device: torch.device) -> "ImageData":
        """The same data on `device`."""
        return ImageData(*(x.to(device) for x in (self.train_x, self.train_y, self.test_x, self.test_y)))

    def first(self, limit: int) -> "ImageData":
        """At most the first `limit` images of each of the two sets."""
        return ImageData(*(x[:limit] for x in (self.train_x, self.train_y, self.test_x, self.test_y)))


def digits() -> ImageData:
    """The 1,797 handwritten digits of 8 × 8 pixels that scikit-learn embeds; needs no network.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, test part.

    Returns:
        1,437 training and 360 test images. The split is always the same, and stratified by label.
    """
    # Here and not above: reading MNIST does not need scikit-learn.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels, labels, test_size=360, random_state=0, stratify=labels)
    train_x, test_x = (torch.tensor(x / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8) for x in parts[:2])
    train_y, test_y = (torch.tensor(y, dtype=torch.int64) for y in parts[2:])
    return ImageData(train_x, train_y, test_x, test_y)
