"""Every error that Track-Unmix raises on purpose, as one tree.

    UnmixError
    ├── InputError            the caller sent something that cannot be served
    ├── NotFoundError         no such job, song, stem, upload or key
    ├── AccessError           whoever asks may not
    ├── QuotaError            whoever asks has had as much as it may, for now
    ├── QueueError            Redis is away or refused
    │   └── LeaseLostError    another worker, a cancel or a new submission owns the job now
    ├── SupersededError       the job was removed or submitted anew: this outcome of it counts no more
    ├── StoreError            the object store is away or refused
    │   ├── ObjectMissingError
    │   ├── ObjectChangedError    a conditional put met another object than it expected
    │   └── PartDamagedError      a part of a song is not what its document says
    ├── UnreachableError      a server elsewhere cannot be reached, or may not be
    ├── CallbackError         the end of a job could not be reported
    └── EngineError           the separation itself failed
        ├── ModelUnavailableError
        ├── AudioError        the bytes cannot be decoded as audio
        ├── OutOfMemoryError  there was too little memory, on the device or beside it
        └── DeviceError       the device that computes has failed

An error knows its stable `code` (snake_case, part of the API) and whether the same work may succeed later
(`retryable`). It knows nothing of HTTP: `unmix_rest.http.problems` holds the one table from codes to statuses.
"""

from collections.abc import Mapping


class UnmixError(Exception):
    """Base of the tree; `code` and `retryable` may be narrowed for one instance.

    `facts` are what a program may want to know besides, as plain JSON values.
    """

    code = "internal_error"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.facts = dict(facts or {})
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class InputError(UnmixError):
    """The caller sent something that cannot be served; the code says what."""

    code = "invalid_input"


class NotFoundError(UnmixError):
    """No such job, song, stem, upload or key."""

    code = "not_found"


class AccessError(UnmixError):
    """Whoever asks may not, or not in this way; the code says why."""

    code = "key_required"


class QuotaError(UnmixError):
    """Whoever asks has had as much as it may, for now."""

    code = "quota_exceeded"
    retryable = True


class QueueError(UnmixError):
    """Redis is away or refused."""

    code = "queue_unavailable"
    retryable = True


class LeaseLostError(QueueError):
    """The token is no longer valid: whatever this worker made must not be committed."""

    code = "lease_lost"
    retryable = False


class SupersededError(UnmixError):
    """The job was removed or submitted anew: nothing was written, and whatever was made for it does not count."""

    code = "superseded"


class StoreError(UnmixError):
    """The object store is away or refused."""

    code = "store_unavailable"
    retryable = True


class ObjectMissingError(StoreError):
    """The named object does not exist."""

    code = "object_missing"
    retryable = False


class ObjectChangedError(StoreError):
    """A conditional put met another object (or none) than the caller had seen."""

    code = "object_changed"
    retryable = False


class PartDamagedError(UnmixError):
    """A part of a song is not what its document says; it has to be made again."""

    code = "part_damaged"


class UnreachableError(UnmixError):
    """A server elsewhere cannot be reached, breaks off, takes too long, or may not be asked."""

    code = "unreachable"
    retryable = True


class CallbackError(UnmixError):
    """The end of a job could not be reported to its callback; the job itself is none the worse."""

    code = "callback_failed"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        http_status: int | None = None,
        retry_after_seconds: float = 0.0,
    ) -> None:
        super().__init__(message, code=code, retryable=retryable)
        self.http_status = http_status  # of the answer, if there was one
        self.retry_after_seconds = retry_after_seconds  # how long the receiver asked to be left alone


class EngineError(UnmixError):
    """The separation itself failed."""

    code = "separation_failed"


class ModelUnavailableError(EngineError):
    """The asked weights cannot be had; the message names the model, the places looked and the remedy."""

    code = "model_unavailable"


class AudioError(EngineError):
    """The bytes cannot be decoded as audio; the code says why."""

    code = "undecodable"


class OutOfMemoryError(EngineError):
    """There was too little memory, on the device that computes or beside it."""

    code = "out_of_memory"
    retryable = True


class DeviceError(EngineError):
    """The device that computes has failed; the process that met this can compute nothing any more."""

    code = "device_failed"
    retryable = True
