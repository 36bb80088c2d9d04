"""Writes trained weights in the form that `demucs.hf.load_safetensors_model` reads.

Owns the file: float16 tensors (half the bytes; the figures do not change), and metadata that
names the class and its arguments, as in the published demucs models.
    python -m training.export OUT/ema.pt src/unmix/engine/weights/demo.safetensors
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from demucs.hf import load_safetensors_model
from safetensors.torch import save_file

from training.model import ARCHITECTURE


def export(checkpoint: Path, target: Path) -> None:
    """Write the checkpoint's weights to `target` and read them back through demucs."""
    state = torch.load(checkpoint, weights_only=True)
    tensors = {name: tensor.half().contiguous() for name, tensor in state.items()}
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([]),
        "kwargs": json.dumps(ARCHITECTURE),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target, metadata=metadata)
    # safetensors creates 0600, which a container's user could not read
    target.chmod(0o644)
    model = load_safetensors_model(target)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{target.name}: {count:,} parameters, {target.stat().st_size:,} bytes")


def main() -> None:
    """Export the checkpoint named first to the file named second."""
    export(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
