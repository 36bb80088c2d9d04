"""Writes a model with demucs-onnx' own exporter to where its command line keeps what it has fetched as `htdemucs`.

Runs in `.venv-peers`, where nothing of ours is: `python benchmarks/onnx_export.py REPOSITORY MODEL CACHE`.
"""

import sys
from pathlib import Path

import torch
from demucs.pretrained import get_model
from demucs_onnx._hub import MODEL_REGISTRY, model_filename
from demucs_onnx.export import export_to_onnx
from huggingface_hub.file_download import repo_folder_name

_REVISION = "0" * 40


def main() -> None:
    """Export the model named on the command line."""
    repository, name, cache = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    checkpoint = cache / "checkpoint.th"
    folder = cache / repo_folder_name(repo_id=MODEL_REGISTRY["htdemucs"].repo, repo_type="model")
    snapshot = folder / "snapshots" / _REVISION
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(_REVISION)
    torch.save(get_model(name, repo=repository), checkpoint)
    # Its check is of noise against a fixed limit; we compare what comes out of songs.
    export_to_onnx(checkpoint, snapshot / model_filename("htdemucs"), parity_check=False)
    checkpoint.unlink()


if __name__ == "__main__":
    main()
