"""What the separating child is told: an allow-list of this process' environment, and how it waits and keeps its memory.

The child decodes what strangers sent, so it gets nothing that is not named here: no password, key or token, unless one
stands in the address of a proxy. That it cannot look them up in its parent either is the parent's doing
(`unmix.runtime.secrecy`), and holds on Linux.
"""

import os
from typing import Final

#: Settings that the child reads.
SETTINGS: Final = (
    "model",
    "model_dir",
    "trusted_weights",
    "weights",
    "device",
    "backend",
    "precision",
    "threads",
    "cache_dir",
    "min_song_seconds",
    "max_song_seconds",
    "decoder_sandbox",
)
_NAMES: Final = {
    *(f"UNMIX_{name.upper()}" for name in SETTINGS),
    # a process as such
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
    # the way to the weights, but none of the hub's tokens: what demucs publishes is open to all
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "OPENSSL_CONF", "OPENSSL_MODULES"),
    *("HF_HOME", "HF_ENDPOINT", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"),
}
_PREFIXES: Final = (
    *("LC_", "LD_", "DYLD_", "XDG_", "PYTHON", "MALLOC_", "GLIBC_"),
    "HF_HUB_",
    # what computes, and on what
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "ATEN_", "TORCH", "PYTORCH_", "OPENVINO_", "OV_"),
    *("ONEDNN_", "DNNL_", "TBB_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "TRITON_", "METAL_"),
    *("HIP_", "HSA_", "ROCM_", "ROCR_", "MIOPEN_"),
)


def child_environment() -> dict[str, str]:
    """Return the environment for a process that separates."""
    return {
        # A thread that spins for work steals the core of REST or of the next worker.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        # glibc would hand every large tensor back and fault it in again for the next segment (docs/engine.md).
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
        **{name: value for name, value in os.environ.items() if _is_allowed(name.upper())},
    }


def _is_allowed(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)
