"""Keys are made once, for the hosts that were named, and are open to nobody else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from federated.keys import main, node_key, superlink_keys


def test_the_certificate_is_the_authoritys_and_for_the_named_hosts(tmp_path: Path) -> None:
    tls = superlink_keys(tmp_path, ["superlink", "127.0.0.1"])
    authority = x509.load_pem_x509_certificate(tls.authority.read_bytes())
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["superlink"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_private_keys_are_open_to_their_owner_alone(tmp_path: Path) -> None:
    superlink_keys(tmp_path, ["localhost"])
    node_key(tmp_path / "site-1")
    for name in ("ca.key", "superlink.key", "site-1"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_nodes_key_is_a_pair_of_a_curve_that_flower_takes(tmp_path: Path) -> None:
    file = node_key(tmp_path / "site-1")
    private = load_ssh_private_key(file.read_bytes(), None)
    public = load_ssh_public_key((tmp_path / "site-1.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1" and private.public_key() == public


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--host", "a", "--node", "site-1"]) == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main([str(tmp_path), "--host", "b", "--node", "site-1", "--node", "site-2"]) == 0
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert before == {name: after[name] for name in before}
    assert after.keys() - before.keys() == {"site-2", "site-2.pub"}


def test_a_directory_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_an_authoritys_key_that_was_put_away_is_not_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--host", "a"]) == 0
    (tmp_path / "ca.key").unlink()  # as the documentation says: away from the SuperLink
    assert main([str(tmp_path), "--host", "a", "--node", "site-2"]) == 0
    assert not (tmp_path / "ca.key").exists() and (tmp_path / "site-2.pub").exists()

    (tmp_path / "superlink.crt").unlink()
    capsys.readouterr()
    assert main([str(tmp_path), "--host", "b"]) == 1
    assert "ca.key is not here" in capsys.readouterr().err
    superlink_keys(tmp_path / "other", ["a"])
    (tmp_path / "other" / "ca.key").rename(tmp_path / "ca.key")
    assert main([str(tmp_path), "--host", "b"]) == 1
    assert "ca.key is not the key of" in capsys.readouterr().err


def test_a_public_key_that_was_not_written_any_more_is_made_up_for(tmp_path: Path) -> None:
    public = node_key(tmp_path / "site-1").with_name("site-1.pub")
    before = public.read_bytes()
    public.unlink()
    node_key(tmp_path / "site-1")
    assert public.read_bytes() == before


def test_it_is_told_that_the_certificate_from_before_is_not_for_another_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path), "--host", "a", "--host", "127.0.0.1"])
    assert "not for" not in capsys.readouterr().err
    main([str(tmp_path), "--host", "127.0.0.1", "--host", "b"])
    assert "superlink.crt is from before, and not for b: remove it first" in capsys.readouterr().err
