"""Checks across objects: what one names, another has to be, and settings have to be understood."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from manifests import keda
from manifests.form import quantity
from manifests.rendering import K8S, Object
from manifests.workloads import Manifests, Workload, documented_secrets, twice, walk
from unmix.local.embedded_redis import roles
from unmix.settings import Settings

_SECRET_NAME = re.compile(r"password|secret|token|access.?key", re.IGNORECASE)


def references_resolve(manifests: Manifests) -> Iterator[str]:
    secrets = documented_secrets((K8S / "README.md").read_text())
    for workload in manifests.workloads:
        where, namespace = workload.name, workload.namespace
        account = workload.pod.get("serviceAccountName", "default")
        if manifests.find("ServiceAccount", namespace, account) is None:
            yield f"{where} runs as the ServiceAccount {account}, which is not there"
        for name, keys in _secret_keys(workload):
            if not keys <= secrets.get((namespace, name), set()):
                yield f"{where} wants {sorted(keys)} of the Secret {name}, of which k8s/README.md does not tell"
        for name in _config_maps(workload):
            if manifests.find("ConfigMap", namespace, name) is None:
                yield f"{where} wants the ConfigMap {name}, which is not there"
        yield from _volumes(manifests, workload)
        governing = workload.object["spec"].get("serviceName")
        if governing and manifests.find("Service", namespace, governing) is None:
            yield f"{where} belongs to the Service {governing}, which is not there"
    for scaled in manifests.of_kind("ScaledObject"):
        yield from _scaling(manifests, scaled, secrets)


def _secret_keys(workload: Workload) -> Iterator[tuple[str, set[str]]]:
    for _, key, value in walk(workload.pod):
        if key == "secretKeyRef":
            yield value["name"], {value["key"]}
        elif key == "secret" and isinstance(value, dict):
            yield value["secretName"], {item["key"] for item in value.get("items", [])}


def _config_maps(workload: Workload) -> Iterator[str]:
    for _, key, value in walk(workload.pod):
        if key in ("configMapRef", "configMapKeyRef", "configMap"):
            yield value["name"]


def _volumes(manifests: Manifests, workload: Workload) -> Iterator[str]:
    claims = [claim["metadata"]["name"] for claim in workload.object["spec"].get("volumeClaimTemplates", [])]
    volumes = [*(volume["name"] for volume in workload.pod.get("volumes", [])), *claims]
    for name in twice(volumes):
        yield f"{workload.name} has the volume {name} twice"
    for volume in workload.pod.get("volumes", []):
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and manifests.find("PersistentVolumeClaim", workload.namespace, claim) is None:
            yield f"{workload.name} wants the claim {claim}, which is not there"
    mounted = set()
    for container in workload.containers:
        mounts = container.get("volumeMounts", [])
        mounted |= {mount["name"] for mount in mounts}
        for path in twice([mount["mountPath"] for mount in mounts]):
            yield f"{workload.name} mounts {path} twice"
        for name in twice([variable["name"] for variable in container.get("env", [])]):
            yield f"{workload.name} sets {name} twice"
        yield from _files(manifests, workload, container)
    for name in mounted - set(volumes):
        yield f"{workload.name} mounts the volume {name}, which is not there"
    for name in set(volumes) - mounted:
        yield f"{workload.name} has the volume {name}, which nothing mounts"


def _files(manifests: Manifests, workload: Workload, container: Object) -> Iterator[str]:
    """Files in a command have to be in the ConfigMap that is mounted there."""
    maps = {
        volume["name"]: volume["configMap"]["name"]
        for volume in workload.pod.get("volumes", [])
        if "configMap" in volume
    }
    for mount in container.get("volumeMounts", []):
        files = manifests.find("ConfigMap", workload.namespace, maps.get(mount["name"], ""))
        for word in container.get("command", []):
            if files and word.startswith(mount["mountPath"] + "/") and Path(word).name not in files["data"]:
                yield f"{workload.name} starts {word}, which is not in the ConfigMap"


def _scaling(manifests: Manifests, scaled: Object, secrets: dict[tuple[str, str], set[str]]) -> Iterator[str]:
    where, namespace = f"ScaledObject {scaled['metadata']['name']}", scaled["metadata"]["namespace"]
    target = scaled["spec"]["scaleTargetRef"]
    workload = manifests.find(target.get("kind", "Deployment"), namespace, target["name"])
    if workload is None:
        yield f"{where} scales {target['name']}, which is not there"
    elif "replicas" in workload["spec"]:
        yield f"{where} scales {target['name']}, whose manifest fixes the replicas"
    for trigger in scaled["spec"]["triggers"]:
        yield from (f"{where}: {complaint}" for complaint in keda.trigger_problems(trigger))
        name = trigger.get("authenticationRef", {}).get("name", "")
        login = manifests.find("TriggerAuthentication", namespace, name)
        if login is None:
            yield f"{where} logs in by {name!r}, which is not there"
        for reference in login["spec"].get("secretTargetRef", []) if login else []:
            if reference["key"] not in secrets.get((namespace, reference["name"]), set()):
                yield f"{where} wants {reference['key']} of the Secret {reference['name']}, which nobody makes"
            if reference["key"] != trigger["metadata"].get("username"):
                yield f"{where} logs in as {trigger['metadata'].get('username')} with the password of another"
        yield from _address(manifests, where, namespace, trigger["metadata"].get("address", ""))


def no_secret_is_told(manifests: Manifests) -> Iterator[str]:
    for secret in manifests.of_kind("Secret"):
        yield f"Secret {secret['metadata']['name']} is in the repository"
    for entry in manifests.of_kind("ConfigMap"):
        for key in entry.get("data", {}):
            if _SECRET_NAME.search(key):
                yield f"ConfigMap {entry['metadata']['name']} holds {key}"
    for workload in manifests.workloads:
        for container in workload.containers:
            for name, value in manifests.environment(workload, container).items():
                if value and _SECRET_NAME.search(name):
                    yield f"{workload.name} is told {name}"
                if value and "://" in value and urlsplit(value).password:
                    yield f"{workload.name}: the URL in {name} has a password"


def settings_are_understood(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for container in workload.containers:
            if "track-unmix-" not in container["image"]:
                continue
            told = manifests.environment(workload, container)
            values: dict[str, Any] = {}
            for name, value in told.items():
                field = name.removeprefix("UNMIX_").lower()
                if name.startswith("UNMIX_") and field in Settings.model_fields:
                    if value is not None:  # what a Secret holds is not known here
                        values[field] = value
                elif name not in ("HOME", "LD_LIBRARY_PATH"):
                    yield f"{workload.name} is told {name}, which is no setting"
            try:
                Settings(**values)
            except ValidationError as error:
                yield f"{workload.name}: {error}"
            threads, cores = told.get("UNMIX_THREADS"), container["resources"]["limits"]["cpu"]
            if threads and float(threads) != quantity(cores):
                yield f"{workload.name} computes with {threads} threads on {cores} processors"
            yield from _logins(manifests, workload, container, told)


def _logins(manifests: Manifests, workload: Workload, container: Object, told: dict[str, str | None]) -> Iterator[str]:
    if url := told.get("UNMIX_REDIS_URL"):
        user = urlsplit(url).username
        passwords = [
            entry.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
            for entry in container["env"]
            if entry["name"] == "UNMIX_REDIS_PASSWORD"
        ]
        if user not in roles():
            yield f"{workload.name} logs in to Redis as {user}, whom users.acl.template does not know"
        if passwords != [user]:
            yield f"{workload.name} logs in to Redis as {user} with the password of {passwords}"
        yield from _address(manifests, workload.name, workload.namespace, urlsplit(url).netloc.rpartition("@")[2])
    # A store outside the cluster has a public name, with a dot and no `.svc`.
    store = urlsplit(told.get("UNMIX_STORE_URL") or "").netloc
    if store and (store.partition(":")[0].endswith(".svc") or "." not in store):
        yield from _address(manifests, workload.name, workload.namespace, store)


def _address(manifests: Manifests, where: str, namespace: str, address: str) -> Iterator[str]:
    """An address in the cluster has to be a Service and one of its ports."""
    host, _, port = address.partition(":")
    name, _, space = host.removesuffix(".svc").partition(".")
    service = manifests.find("Service", space or namespace, name)
    if service is None:
        yield f"{where} looks for {host}, which is no Service"
    elif int(port) not in [entry["port"] for entry in service["spec"]["ports"]]:
        yield f"{where} asks the Service {host} at port {port}, which it does not have"
