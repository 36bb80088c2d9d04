"""What is wrong with rendered manifests: each check yields one sentence for each mistake that it finds.

The API server would accept much of this. A selector that matches nothing, a Secret that nobody makes, or a probe of a
port that does not exist shows only in a cluster, as a pod that never becomes ready.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache

import jsonschema
import kubernetes_validate

from manifests import admission, conduct, form, keda, monitoring, references, running
from manifests.rendering import Object
from manifests.workloads import Manifests

#: Down to the oldest that the script takes.
KUBERNETES_VERSIONS = ("1.37", "1.36", "1.35", "1.34", "1.33")

CHECKS: tuple[Callable[[Manifests], Iterator[str]], ...] = (
    form.names_are_valid_and_unique,
    form.words_are_known,
    form.selectors_select,
    form.ports_exist,
    form.resources_are_bounded,
    form.images_are_pinned,
    references.references_resolve,
    references.no_secret_is_told,
    references.settings_are_understood,
    running.pods_are_restricted,
    running.pods_are_watched_and_end_in_peace,
    running.strangers_are_let_in_on_purpose,
    monitoring.monitors_find_pods,
    admission.one_way_is_chosen,
    admission.rules_are_of_a_direction_that_counts,
    admission.rollouts_can_go_on,
    admission.probes_fail_and_pass_as_they_may,
    admission.claims_have_a_size,
    admission.every_pod_has_one_owner,
    conduct.what_is_written_to_can_be_written,
    conduct.folders_are_bounded,
    conduct.probes_ask_what_is_there,
    conduct.whom_they_ask_they_reach,
    conduct.one_hand_scales,
)


def problems(objects: list[Object], versions: tuple[str, ...] = KUBERNETES_VERSIONS) -> list[str]:
    """Return all that is wrong. What the schemas refuse is not looked at further: the checks rely on its form."""
    texts = [json.dumps(entry) for entry in objects]
    refused = [complaint for text in texts for version in versions for complaint in _schema(text, version)]
    if refused:
        return refused
    manifests = Manifests(objects)
    return [complaint for check in CHECKS for complaint in check(manifests)]


@cache  # most objects are the same in all combinations
def _schema(text: str, version: str) -> list[str]:
    entry = json.loads(text)
    where = f"{entry['kind']} {entry['metadata'].get('name')}"
    try:
        if entry["kind"] in keda.KINDS:
            jsonschema.validate(entry, keda.schema(entry["kind"]))
        elif entry["kind"] in monitoring.KINDS:
            jsonschema.validate(entry, monitoring.schema(entry["kind"]))
        else:
            kubernetes_validate.validate(entry, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        path = ".".join(str(part) for part in error.path)
        return [f"{where}: not valid in {version}: {path}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{where}: {version} has no {entry['apiVersion']} {entry['kind']}"]
    return []
