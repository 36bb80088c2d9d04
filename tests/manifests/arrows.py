"""Who can reach whom under the network policies: the arrows that they leave of all there could be."""

import ipaddress
from dataclasses import dataclass, field

from manifests.rendering import Object
from manifests.workloads import Manifests, matches


@dataclass(frozen=True)
class Peer:
    """One end of an arrow: a pod, or an address outside the cluster."""

    name: str
    namespace: str | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    address: str | None = None

    def is_among(self, peers: list[Object], policy_namespace: str) -> bool:
        return any(self._is(peer, policy_namespace) for peer in peers)

    def _is(self, peer: Object, policy_namespace: str) -> bool:
        if "ipBlock" in peer:
            if self.address is None:
                return False
            address = ipaddress.ip_address(self.address)
            block = peer["ipBlock"]
            excepted = any(address in ipaddress.ip_network(cidr) for cidr in block.get("except", []))
            return address in ipaddress.ip_network(block["cidr"]) and not excepted
        if self.namespace is None:
            return False
        if "namespaceSelector" in peer:
            if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": self.namespace}):
                return False
        elif self.namespace != policy_namespace:
            return False
        return matches(peer.get("podSelector", {}), self.labels)


OUTSIDE = (
    Peer("anyone", "default"),
    Peer("keda", "keda", {"app": "keda-operator"}),
    Peer("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
    Peer("dns", "kube-system", {"k8s-app": "kube-dns"}),
    Peer("node-dns", address="169.254.20.10"),
    Peer("internet", address="93.184.216.34"),
    Peer("internet-v6", address="2606:2800::1"),
    Peer("private", address="10.20.30.40"),
    Peer("metadata-server", address="169.254.169.254"),
)


#: Ports to try: those in use, those of web servers, DNS and API servers, and one that stands for all others.
PORTS = (53, 80, 443, 5000, 5002, 6379, 6443, 9000, 9999)


def arrows(manifests: Manifests) -> set[tuple[str, str, int]]:
    """Return every (from, to, TCP port) that all policies together let through."""
    policies = manifests.of_kind("NetworkPolicy")
    ours = [
        Peer(workload.object["metadata"]["name"], workload.namespace, workload.labels)
        for workload in manifests.workloads
    ]
    peers = (*ours, *OUTSIDE)
    return {
        (source.name, target.name, port)
        for source in peers
        for target in peers
        for port in PORTS
        if source is not target and (source in ours or target in ours)
        if _lets(policies, "egress", source, target, port) and _lets(policies, "ingress", target, source, port)
    }


def _lets(policies: list[Object], direction: str, subject: Peer, other: Peer, port: int) -> bool:
    """Tell whether the policies of `subject` let it talk to `other`; without any, all may."""
    concerned = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == subject.namespace
        and direction.capitalize() in policy["spec"]["policyTypes"]
        and matches(policy["spec"]["podSelector"], subject.labels)
    ]
    side = "to" if direction == "egress" else "from"
    return not concerned or any(
        _has_port(rule, port) and (side not in rule or other.is_among(rule[side], policy["metadata"]["namespace"]))
        for policy in concerned
        for rule in policy["spec"].get(direction, [])
    )


def _has_port(rule: Object, port: int) -> bool:
    entries = rule.get("ports", [{}])
    assert not any("endPort" in entry for entry in entries), "not every network enforces ranges of ports"
    return any(entry.get("protocol", "TCP") == "TCP" and entry.get("port", port) == port for entry in entries)
