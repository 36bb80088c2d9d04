"""Makes a separator as the settings say: for the worker's child and for the command line alike.

The engine itself reads no settings; whoever wants others than those of the environment passes a changed copy.
"""

from unmix.audio.confined_reader import reader_of, tag_reader_of
from unmix.engine.faults import faults_named
from unmix.engine.models import load_model
from unmix.engine.separator import Separator
from unmix.errors import ModelUnavailableError
from unmix.resources import usable_processors
from unmix.settings import Settings


@faults_named()
def make_separator(model: str, settings: Settings, *, at_once: int = 1) -> Separator:
    """Load `model`, and convert it if its backend wants that; for so many songs at once.

    What decodes songs is shut in as the settings say, unless several are separated at once.

    Raises:
        ModelUnavailableError: the weights cannot be had, or may not be used by the settings (`weights_not_open`).
        OutOfMemoryError: the model does not fit.
        DeviceError: the device has failed.
        EngineError: what the settings ask for cannot be had on this machine; see `Separator`.
    """
    loaded = load_model(model, model_dir=settings.model_dir, trusted_weights=settings.trusted_sums)
    if not settings.allows_weights(loaded.weights_licence):
        raise ModelUnavailableError(f"UNMIX_WEIGHTS=open forbids {loaded.weights_notice}", code="weights_not_open")
    return Separator(
        loaded,
        device=settings.device,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads or usable_processors(),
        cache_dir=settings.cache_dir,
        at_once=at_once,
        open_song=reader_of(settings.decoder_sandbox),
        read_tags=tag_reader_of(settings.decoder_sandbox),
    )
