"""Images moved at random."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad


def shifts(count: int, most: int, generator: Generator) -> Tensor:
    """Draws so many moves (count, 2), down and right, of -most to most pixels each."""
    return torch.randint(-most, most + 1, (count, 2), generator=generator)


def moved(images: Tensor, by: Tensor) -> Tensor:
    """Moves each of the images (N, C, height, width) by its own whole pixels (N, 2); what comes in is 0."""
    if not len(by) or not by.any():
        return images
    height, width = images.shape[2:]
    most = int(by.abs().max())
    by = by.to(images.device)
    rows = (torch.arange(height, device=images.device) + most - by[:, :1]).reshape(-1, 1, height, 1)
    columns = (torch.arange(width, device=images.device) + most - by[:, 1:]).reshape(-1, 1, 1, width)
    image = torch.arange(len(images), device=images.device).reshape(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=images.device).reshape(1, -1, 1, 1)
    return pad(images, [most] * 4)[image, channel, rows, columns]
