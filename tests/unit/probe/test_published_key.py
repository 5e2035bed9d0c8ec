"""The probe's public key as the tenant's key set takes it."""

from __future__ import annotations

import pytest
from joserfc.jwk import ECKey, RSAKey

from assistant.domain.errors import ConfigurationError
from assistant.probe.published_key import published_key

KEY = ECKey.generate_key("P-256")


def test_it_is_named_and_bound_to_the_probe() -> None:
    entry = published_key(KEY.as_der(private=False))
    assert (entry["kid"], entry["assistant_subject"]) == ("probe", "probe")
    assert (entry["x"], entry["y"]) == (KEY.as_dict()["x"], KEY.as_dict()["y"])


def test_no_private_half_gets_out() -> None:
    assert "d" not in published_key(KEY.as_der(private=False))


@pytest.mark.parametrize(
    "der",
    [
        b"garbage",
        KEY.as_der(private=True),
        ECKey.generate_key("P-384").as_der(private=False),
        RSAKey.generate_key(2048).as_der(private=False),
    ],
    ids=["garbage", "a private key", "another curve", "an RSA key"],
)
def test_any_other_key_is_refused(der: bytes) -> None:
    with pytest.raises(ConfigurationError):
        published_key(der)
