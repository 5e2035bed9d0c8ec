from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from template_checks.networks import Peer, SecurityGroups
from template_checks.templates import Templates


def groups(folder: Path, resources: str) -> tuple[Templates, SecurityGroups]:
    template = "Parameters: {Block: {Type: String}}\nResources:\n" + resources
    (folder / "it.yaml").write_text(template, encoding="utf-8")
    templates = Templates.read([folder])
    return templates, SecurityGroups(templates)


def allows(folder: Path, resources: str, *, port: int = 443, network: str = "10.0.0.0/24") -> bool | None:
    templates, rules = groups(folder, resources)
    group = templates.of("AWS::EC2::SecurityGroup")[0]
    peer = Peer(groups=("sg-peer",), networks=(ip_network(network),))
    return rules.allow([group], "Ingress", port=port, peer=peer)


GROUP = "  G: {{Type: AWS::EC2::SecurityGroup, Properties: {{SecurityGroupIngress: [{rule}]}}}}\n"


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("{IpProtocol: tcp, FromPort: 443, ToPort: 443, SourceSecurityGroupId: sg-peer}", True),
        ("{IpProtocol: tcp, FromPort: 443, ToPort: 443, SourceSecurityGroupId: sg-other}", False),
        ("{IpProtocol: tcp, FromPort: 440, ToPort: 450, CidrIp: 10.0.0.0/16}", True),
        ("{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 10.0.0.0/25}", False),
        ("{IpProtocol: tcp, FromPort: 80, ToPort: 80, CidrIp: 0.0.0.0/0}", False),
        ("{IpProtocol: udp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0}", False),
        ('{IpProtocol: "-1", CidrIp: 0.0.0.0/0}', True),
        ("{IpProtocol: -1, CidrIp: 0.0.0.0/0}", True),
        ("{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: !Ref Block}", None),
        ("{IpProtocol: tcp, FromPort: 443, ToPort: 443, SourcePrefixListId: pl-1}", None),
    ],
)
def test_a_rule_allows_a_peer_or_not(tmp_path: Path, rule: str, verdict: bool | None) -> None:
    assert allows(tmp_path, GROUP.format(rule=rule)) is verdict


def test_two_blocks_together_contain_what_neither_contains_alone(tmp_path: Path) -> None:
    rules = [f"{{IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 10.0.0.{at}/25}}" for at in (0, 128)]
    resources = GROUP.format(rule=", ".join(rules))
    assert allows(tmp_path, resources, network="10.0.0.0/24") is True


def test_a_group_without_egress_rules_may_connect_to_all_until_it_has_one(tmp_path: Path) -> None:
    bare = "  G: {Type: AWS::EC2::SecurityGroup, Properties: {GroupDescription: x}}\n"
    one = (
        "  E: {Type: AWS::EC2::SecurityGroupEgress, Properties: {GroupId: !Ref G, IpProtocol: tcp, "
        "FromPort: 80, ToPort: 80, CidrIp: 0.0.0.0/0}}\n"
    )
    peer = Peer(networks=(ip_network("10.0.0.0/24"),))
    for resources, verdict in ((bare, True), (bare + one, False)):
        templates, rules = groups(tmp_path, resources)
        group = templates.of("AWS::EC2::SecurityGroup")[0]
        assert rules.allow([group], "Egress", port=443, peer=peer) is verdict
