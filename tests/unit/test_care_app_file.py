"""An invalid file of a care side is reported with file, line, key and allowed values."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.tenant.care_app import CareApp, load_care_app
from assistant.tenant.tenant import TenantConfig, load_tenant

TENANT = """
schema_version = 1
name = "clinic"
display_name = "Clinic"
[deployment]
account = "111122223333"
region = "us-east-1"
zones = ["us-east-1a", "us-east-1b"]
profile = "dev"
cost_center = "c"
[edge]
host_name = "assistant.clinic.example.com"
certificate_arn = "arn:aws:acm:us-east-1:111122223333:certificate/1"
consumer_cidrs = ["10.32.0.0/16"]
allowed_principals = ["arn:aws:iam::444455556666:root"]
"""
CARE = """schema_version = 1
tenant = "clinic"

[deployment]
account = "444455556666"
region = "us-east-1"
zones = ["us-east-1a", "us-east-1b"]
profile = "dev"
cost_center = "care"

[network]
cidr = "10.32.1.0/24"

[link]
service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0"
client_cidrs = ["10.32.1.0/24"]

[probe]
question = "How long is the wait?"
"""


@pytest.fixture
def tenant(tmp_path: Path) -> TenantConfig:
    folder = tmp_path / "tenants"
    folder.mkdir()
    (folder / "clinic.toml").write_text(TENANT)
    return load_tenant(folder / "clinic.toml")


def load(folder: Path, tenant: TenantConfig, content: str) -> CareApp:
    (folder / "clinic.toml").write_text(content)
    return load_care_app(folder / "clinic.toml", tenant=tenant)


def test_a_good_file_is_read_whole(tmp_path: Path, tenant: TenantConfig) -> None:
    found = load(tmp_path, tenant, CARE)
    assert found.config.link.client_cidrs == ("10.32.1.0/24",)
    assert found.certificate_authority is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[probe]", "[probe]\ncolour = 1", "line 19: unknown key probe.colour; allowed here: alarm_email"),
        ("schema_version = 1", "schema_version = 2", "line 1: schema_version: Input should be 1"),
        ('question = "How long is the wait?"', "", "line 18: probe.question is needed"),
        ("[probe]", "[prob]", "line 18: unknown key prob; allowed here: deployment, .*link, network, probe"),
        ("vpce-svc-0123456789abcdef0", "vpce-0123", "line 15: link.service_name: .*should match pattern"),
        ('["10.32.1.0/24"]', '["10.32.1.7/24"]', "line 16: link.client_cidrs.0: .*has host bits set"),
        ('"dev"', "true", "line 8: deployment.profile"),
        ("[link]", "[link", "not valid TOML"),
        ("[probe]", "[helpdesk]\n[probe]", "line 18: helpdesk was removed .* Delete the section"),
        # What cannot go with the tenant's file.
        ('tenant = "clinic"', 'tenant = "pharmacy"', 'must equal the file\'s name, "clinic"'),
        ('region = "us-east-1"', 'region = "us-west-2"', "region must be that of the tenant"),
        ("[link]", '[link]\nnames = "service"', "needs edge.service_private_dns = true"),
        ("vpce.us-east-1", "vpce.eu-west-1", "link.service_name is of another region"),
        ('["10.32.1.0/24"]', '["10.33.0.0/24"]', "client_cidrs 10.33.0.0/24 must lie within"),
        ('cidr = "10.32.1.0/24"', 'cidr = "10.64.0.0/24"', "where the probe stands, must lie within"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, tenant: TenantConfig, old: str, new: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s)clinic.toml: .*{says}"):
        load(tmp_path, tenant, CARE.replace(old, new))


def test_a_tenant_that_is_only_served_locally_has_no_care_side(tmp_path: Path, tenant: TenantConfig) -> None:
    local = tenant.model_copy(update={"deployment": None})
    with pytest.raises(ConfigurationError, match="only served locally"):
        load(tmp_path, local, CARE)


def with_authority(name: str) -> str:
    return CARE + f'certificate_authority = "{name}"\n'


def test_a_private_authority_is_read_from_beside_the_file(tmp_path: Path, tenant: TenantConfig) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    (tmp_path / "root.pem").write_text(pem + "\n")
    assert load(tmp_path, tenant, with_authority("root.pem")).certificate_authority == pem


@pytest.mark.parametrize("content", [None, "a key", "-----BEGIN CERTIFICATE-----" + "x" * 3000])
def test_an_authority_that_no_function_can_be_given_is_named(
    tmp_path: Path, tenant: TenantConfig, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "root.pem").write_text(content)
    with pytest.raises(ConfigurationError, match=r"probe.certificate_authority: .*root.pem"):
        load(tmp_path, tenant, with_authority("root.pem"))
