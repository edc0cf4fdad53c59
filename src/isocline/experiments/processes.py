"""Where a training runs: the device, the precision, and the processes that `torchrun` started.

Lightning Fabric does this (Accelerate was the other candidate): it takes a model and an optimiser as they are, needs
little but torch, and leaves the loop to us.
"""

import os
from typing import Literal

import torch
from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def launched(device: Device = "cpu", precision: Precision = "32-true") -> Fabric:
    """The processes of this run, joined: one, or as many as `torchrun --nproc-per-node N` started.

    Args:
        device: "auto" is cuda where there is one.
        precision: Of the layers; the solver's state and error control stay in float32.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric
