"""Settings: the only reader of the environment.

Every setting is `UNMIX_<NAME>`; names that older deployments use (`REDIS_HOST`, `MINIO_HOST`, …) are accepted too.
`docs/settings.md` lists them all, kept complete by a test. Every interval is a setting so that tests can scale it.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from unmix.callbacks.signing import Signer
from unmix.job import SeparationOptions
from unmix.words import counted

#: Names of older deployments that are still read, and what each stands for.
OLD_NAMES: Final = {
    "REDIS_HOST": "redis_url",
    "REDIS_PORT": "redis_url",
    "REDIS_PASSWORD": "redis_password",
    "MINIO_HOST": "store_url",
    "MINIO_SECURE": "store_url",
    "MINIO_ACCESS_KEY": "store_access_key",
    "MINIO_SECRET_KEY": "store_secret_key",
}

#: Licences under which anybody may use weights for anything, as SPDX names them.
OPEN_LICENCES: Final = frozenset(
    {"MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "Unlicense"}
)

#: As browsers spell it: in lower case, without a port that goes without saying, without anything after it.
_ORIGIN: Final = re.compile(
    r"(?!https://[^:]*:443$|http://[^:]*:80$)[a-z][a-z0-9+.-]*://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
)

_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_[0-9]+_")


class _OldNames(PydanticBaseSettingsSource):
    """Read the names in `OLD_NAMES`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # not field by field: two old names make one URL

    def __call__(self) -> dict[str, Any]:
        env = os.environ
        values: dict[str, Any] = {
            new: env[old] for old, new in OLD_NAMES.items() if old in env and not new.endswith("_url")
        }
        if "REDIS_HOST" in env:
            # Kubernetes injects REDIS_PORT=tcp://… beside a Service named redis: that is no port.
            port = env.get("REDIS_PORT", "")
            values["redis_url"] = f"redis://{env['REDIS_HOST']}:{port if port.isdigit() else 6379}/0"
        if "MINIO_HOST" in env:
            secure = env.get("MINIO_SECURE", "").lower() in ("1", "true", "yes")
            values["store_url"] = f"{'s3' if secure else 's3+http'}://{env['MINIO_HOST']}"
        return values


class Settings(BaseSettings):
    """What an operator may set; a wrong value stops the process with a message that names it."""

    model_config = SettingsConfigDict(
        env_prefix="UNMIX_",
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # the message about a wrong secret must not have it
    )

    redis_url: str = Field("redis://localhost:6379/0", description="Redis-protocol server, database included.")
    redis_password: SecretStr = Field(SecretStr(""), description="Password of the Redis server, kept out of the URL.")
    store_url: str = Field(
        "file://.unmix/store",
        description="Object store: `file://path`, `s3://host:port`, or `s3+http://host:port` for plain HTTP.",
    )
    store_access_key: SecretStr = Field(SecretStr(""), description="S3 access key.")
    store_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    store_bucket_prefix: str = Field(
        "", pattern=r"^([a-z0-9][a-z0-9-]*)?$", description="What the names of the S3 buckets begin with."
    )
    store_public_url: str = Field(
        "", description="Address of the S3 store that clients reach, `https://host:port`: they may send songs there."
    )

    model: str = Field("htdemucs", description="Model of a request that names none.")
    models: str = Field("", description="Other models that clients may name, separated by commas.")
    model_dir: Path | None = Field(
        None, description="Folder of an operator's own models, and the air-gapped home of the known ones."
    )
    trusted_weights: str = Field(
        "", description="SHA-256 sums, separated by commas, of the `.th` files in `UNMIX_MODEL_DIR` that may be loaded."
    )
    weights: Literal["any", "open"] = Field(
        "any",
        description="Which weights are used; `open`: only those under a licence that lets anybody use them.",
    )
    device: str = Field("cpu", description="Where models are computed: `cpu`, `cuda`, `cuda:1`, `mps`.")
    backend: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="What computes them; `auto`: `openvino` on a CPU for the models that it can, else `torch`."
    )
    precision: Literal["fast", "exact"] = Field(
        "fast",
        description="Where a job names none; `fast`: bfloat16 where the hardware has it; `exact`: float32 "
        "(see worker/README.md).",
    )
    threads: int = Field(0, ge=0, description="CPU threads of one worker's engine; 0: the processors that it may use.")
    cache_dir: Path = Field(Path("~/.cache/track-unmix"), description="Folder that keeps converted models.")
    mp3_bitrate_kbps: int = Field(
        256, ge=32, le=320, description="Bit rate of stems as mp3, m4a, opus or ogg where a job names none."
    )

    fetch: Literal["blmove", "blpop"] = Field(
        "blmove", description="How workers take work; `blpop` is the contract's literal form (see redis/README.md)."
    )
    lease_seconds: float = Field(30, gt=0, description="How long a claim holds without renewal.")
    renew_seconds: float = Field(5, gt=0, description="Pause between two renewals of a lease.")
    sweep_seconds: float = Field(2, gt=0, description="Pause between two sweeps of the janitor.")
    reconcile_seconds: float = Field(60, gt=0, description="Pause between two comparisons of Redis with open jobs.")
    audit_hours: float = Field(
        6, gt=0, description="Pause between two audits of the whole store, in which retention is applied too."
    )
    grace_seconds: float = Field(20, gt=0, description="How long a lapsed lease or an unclaimed take is left alone.")
    parts: bool = Field(True, description="Separate long songs in parts, shared with idle workers.")
    parts_least_seconds: float = Field(30, gt=0, description="Songs shorter than this are separated as a whole.")
    keep_parts_hours: float = Field(24, ge=0, description="How long the parts of a finished job are kept, to be heard.")
    take_seconds: float = Field(5, gt=0, le=5, description="Longest block of one take.")
    retry_seconds: float = Field(5, ge=0, description="Delay before the first retry; it doubles with each.")
    max_attempts: int = Field(5, ge=1, description="Tries of a job that fails for a passing reason.")
    max_crashes: int = Field(3, ge=1, description="Crashes of the separating process before a song counts as poison.")
    max_lapses: int = Field(10, ge=1, description="Deaths of whole workers before a job is given up.")
    load_seconds: float = Field(
        600, gt=0, description="Longest time that loading a model may take, with its download or conversion."
    )
    stall_seconds: float = Field(60, gt=0, description="Shortest pause in progress that kills the child.")
    shutdown_seconds: float = Field(60, gt=0, description="Time that SIGTERM leaves a worker to end.")
    store_patience_seconds: float = Field(
        60, ge=0, description="How long a worker waits for the object store before it gives the job back."
    )
    scratch_dir: Path | None = Field(None, description="Folder for a worker's temporary files; none: the system's.")
    worker_memory_mb: int = Field(
        0, ge=0, description="Memory of one worker in MiB, its processes together; 0: what its cgroup allows."
    )
    worker_heartbeat: Path | None = Field(None, description="File that a live worker touches, for liveness probes.")
    janitor_heartbeat: Path | None = Field(None, description="File that a live janitor touches, for liveness probes.")

    metrics_host: str = Field("127.0.0.1", description="Address of `UNMIX_METRICS_PORT`.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of worker and janitor for Prometheus; in local mode the janitor's, and those above are the "
        "workers'; empty: none.",
    )
    kubernetes_url: str = Field(
        "",
        description="API server that the janitor tells which workers are busy, so that idle ones are taken away first: "
        "`https://kubernetes.default.svc`; empty: none.",
    )

    host: str = Field("127.0.0.1", description="Address that REST listens on.")
    port: int = Field(5000, ge=0, le=65535, description="Port that REST listens on.")
    trusted_proxy: str = Field(
        "", description="Address of the proxy before REST, whose `X-Forwarded-*` say who the client is; none: nobody's."
    )
    admin_host: str = Field("", description="Address of `UNMIX_ADMIN_PORT`; empty: `UNMIX_HOST`.")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of REST for those who run it, which alone answers `/metrics`, `/readyz` and `/apiv1/failed`; "
        "empty: `UNMIX_PORT` does.",
    )
    rest_shutdown_seconds: float = Field(
        60, ge=0, description="Time that SIGTERM leaves the requests that are under way to end."
    )
    rest_threads: int = Field(16, ge=1, description="Threads that answer requests.")
    rest_streams: int = Field(
        256,
        ge=0,
        description="Most clients at once that are told of jobs as they go, wait for their end, or fetch all stems.",
    )
    auth: Literal["none", "keys"] = Field(
        "none", description="`keys`: whoever asks REST needs a key (`unmix keys create`); `none`: nobody does."
    )
    open: bool = Field(
        False, description="Without keys, let everybody in who reaches REST; else it listens on loopback only."
    )
    hosts: str = Field(
        "",
        description="Names by which REST is asked while it wants no keys, beside `localhost`, separated by commas; "
        "`*`: any.",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose pages may use the API, as `https://example.com`, separated by commas; `*`: all.",
    )
    max_upload_mb: int = Field(
        640, ge=1, description="Largest accepted song in MiB; an hour of CD as WAV is as welcome as an hour of mp3."
    )
    upload_room_mb: int = Field(
        6144,
        ge=1,
        description="Most MiB on the disk of requests that are still coming in or not answered yet, the songs in them "
        "included; a quarter of it for one client.",
    )
    upload_hours: float = Field(
        24, gt=0, le=168, description="How long an upload may take, from its ticket to its job."
    )
    song_urls: bool = Field(False, description="Let clients give a song by its URL, which a worker fetches.")
    song_url_allow: str = Field(
        "", description="Private hosts or networks that songs may be fetched from, separated by commas."
    )
    song_url_seconds: float = Field(300, gt=0, description="Longest time that fetching a song may take.")
    min_song_seconds: float = Field(0.1, ge=0, description="Shortest accepted song.")
    max_song_seconds: float = Field(3600, gt=0, description="Longest accepted song, by decoded samples.")
    probe_seconds: float = Field(60, gt=0, description="Longest time that the decode check of an upload may take.")
    decoder_sandbox: Literal["auto", "require", "off"] = Field(
        "auto",
        description="Shut in what decodes songs, without files or network; `auto`: as far as the kernel can; "
        "`require`: or do not start; `off`: not at all.",
    )
    probe_cpu_seconds: float = Field(
        30, gt=0, description="Most processor time that the check of one song may take; small files get less."
    )
    probe_memory_mb: int = Field(1024, ge=256, description="Address space of the decode check in MiB.")

    gate_host: str = Field("0.0.0.0", description="Address that the gate before REST listens on.")
    gate_port: int = Field(8080, ge=1, le=65535, description="Port that the gate listens on.")
    gate_certificate: Path | None = Field(
        None, description="File of the gate's certificate and those above it, PEM; with it the gate speaks TLS only."
    )
    gate_certificate_key: Path | None = Field(None, description="File of the key of the gate's certificate, PEM.")
    gate_connections: int = Field(32, ge=1, description="Most requests of one address at the gate at once.")
    gate_requests_per_second: int = Field(
        50, ge=1, description="Most requests of one address in a second; four times as many may come at once."
    )
    gate_uploads: int = Field(8, ge=1, description="Most songs that one address sends at once.")
    gate_mb_per_second: int = Field(
        32, ge=0, description="Most MiB that the gate sends in a second over one connection; 0: any."
    )

    quota_requests_per_minute: int = Field(
        0, ge=0, description="Most requests in a minute of one key or, without keys, of one address; 0: any."
    )
    quota_uploads: int = Field(
        0,
        ge=0,
        description="Most uploads that one key or address has open: tickets of which no job is made yet; 0: any.",
    )
    quota_jobs: int = Field(0, ge=0, description="Most jobs of one key or address that are not over; 0: any.")
    quota_song_minutes_per_day: float = Field(
        0, ge=0, description="Most minutes of song that one key or address has separated in a day; 0: any."
    )
    max_backlog_minutes: float = Field(
        0, ge=0, description="Longest expected wait for a worker with which a song is still accepted; 0: any."
    )

    callback_allow: str = Field(
        "", description="Private hosts or networks that callbacks may reach, separated by commas."
    )
    callback_max_attempts: int = Field(9, ge=1, description="Tries of one callback delivery.")
    callback_retry_seconds: float = Field(5, gt=0, description="Delay before a callback's first retry; grows fourfold.")
    callback_host_at_once: int = Field(
        2, ge=1, description="Most deliveries of callbacks to one host at the same time."
    )
    callback_host_per_minute: float = Field(300, gt=0, description="Most deliveries to one host in a minute.")
    callback_job_per_minute: float = Field(
        16,
        gt=0,
        description="Most deliveries of one job's callbacks in a minute, of each client's; 16 may come at once.",
    )
    webhook_secrets: SecretStr = Field(
        SecretStr(""), description="Secrets `whsec_…` that sign callbacks, separated by commas; each of them signs."
    )

    keep_songs_hours: float = Field(
        0, ge=0, description="How long a song stays after the last of its jobs was over; 0: for ever."
    )
    keep_stems_days: float = Field(
        0, ge=0, description="How long stems and documents stay after a job was over; 0: for ever."
    )

    key: SecretStr = Field(
        SecretStr(""), description="Key with which the command line asks a server, unless the server's URL has one."
    )

    min_free_gb: float = Field(
        1,
        ge=0,
        description="Room that songs leave free on the disks of a store in a folder and of temporary files, in GB; "
        "of a small disk no more than a tenth.",
    )
    log_list_mb: float = Field(16, gt=0, description="Most MiB of the `logging` list in Redis, whoever writes there.")
    log_list_max: int = Field(10_000, ge=0, description="Longest `logging` list in Redis; 0: do not log there.")
    traces: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Receiver of OpenTelemetry's protocol by HTTP that traces of jobs are sent to, as "
        "`http://collector:4318`; empty: none are made.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the old names speak only where neither the caller nor `UNMIX_*` does."""
        return init_settings, env_settings, _OldNames(settings_cls)

    @field_validator("admin_port", "metrics_port", mode="before")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("webhook_secrets")
    @classmethod
    def _are_secrets(cls, value: SecretStr) -> SecretStr:
        try:
            Signer(value.get_secret_value())
        except ValueError as error:
            raise ValueError(f"UNMIX_WEBHOOK_SECRETS: {error}") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _listed(value):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"UNMIX_CORS_ORIGINS: {origin!r} is no origin as browsers send it: https://example.com"
                )
        return value

    @model_validator(mode="after")
    def _has_key_of_certificate(self) -> Self:
        if (self.gate_certificate is None) != (self.gate_certificate_key is None):
            raise ValueError("UNMIX_GATE_CERTIFICATE and UNMIX_GATE_CERTIFICATE_KEY go together")
        return self

    @property
    def default_options(self) -> SeparationOptions:
        """Options of a request that names none."""
        return SeparationOptions(model=self.model)

    @property
    def usual_options(self) -> SeparationOptions:
        """What a job's id leaves out: the default options, and what workers do of themselves."""
        return replace(self.default_options, bitrate_kbps=self.mp3_bitrate_kbps, precision=self.precision)

    @property
    def retention(self) -> str:
        """How long things are kept, for people."""
        songs = f"songs go {counted(self.keep_songs_hours, 'hour')} after their last job"
        stems = f"stems {counted(self.keep_stems_days, 'day')} after theirs"
        kept = ", ".join([songs] * bool(self.keep_songs_hours) + [stems] * bool(self.keep_stems_days))
        forever = " and ".join(["songs"] * (not self.keep_songs_hours) + ["stems"] * (not self.keep_stems_days))
        return "; ".join(filter(None, (kept, forever and f"{forever} stay until they are removed")))

    @property
    def allowed_models(self) -> tuple[str, ...]:
        """Every model that a client may name, the default first."""
        return tuple(dict.fromkeys([self.model, *_listed(self.models)]))

    def allows_weights(self, licence: str | None) -> bool:
        """Tell whether weights may be used of which this licence is known, or nothing."""
        return self.weights == "any" or licence in OPEN_LICENCES

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins in `cors_origins`."""
        return frozenset(_listed(self.cors_origins))

    @property
    def known_hosts(self) -> frozenset[str]:
        """The names in `hosts`."""
        return frozenset(_listed(self.hosts.lower()))

    @property
    def trusted_sums(self) -> frozenset[str]:
        """The sums in `trusted_weights`."""
        return frozenset(_listed(self.trusted_weights.lower()))


def unknown_settings() -> list[str]:
    """Return the names in the environment that look like settings and are none."""
    known = {f"UNMIX_{name.upper()}" for name in Settings.model_fields}
    named = {name for name in os.environ if name.upper().startswith("UNMIX_")} - known
    return sorted(name for name in named if name.upper() not in known and not _is_service_link(name))


def _is_service_link(name: str) -> bool:
    """Tell whether Kubernetes has put a variable there, as it does for a Service whose name begins like a setting."""
    return bool(_SERVICE_LINK.search(name)) or "://" in os.environ[name]


def _listed(text: str) -> list[str]:
    """Return what is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
