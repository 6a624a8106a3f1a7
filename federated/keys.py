"""Certificates and keys of a federation: `python -m federated.keys DIRECTORY --host H --node N`.

An authority of one's own, a certificate for the SuperLink and a key for each SuperNode. What is
there already stays, so more nodes can be made later.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import NameOID

from federated.processes import Tls

AUTHORITY = "Nearhit federation"
VALID = timedelta(days=825)
SLACK = timedelta(days=1)  # clocks differ


def superlink_keys(directory: Path, hosts: Sequence[str]) -> Tls:
    """Write `ca.crt`, `ca.key`, `superlink.crt` and `superlink.key`, valid for these hosts.

    Hosts are names or addresses by which SuperNodes and `flwr` reach the SuperLink. The authority's
    key is asked for only where there is something to sign. Raise ValueError where it is gone, or is
    another one's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tls = Tls(
        authority=directory / "ca.crt",
        certificate=directory / "superlink.crt",
        key=directory / "superlink.key",
    )
    if not tls.authority.exists():
        authority_key = _key(directory / "ca.key", ec.SECP256R1())
        certificate = _signed(AUTHORITY, authority_key, authority_key, [])
        tls.authority.write_bytes(certificate.public_bytes(Encoding.PEM))
    if not tls.certificate.exists():
        authority_key = _key_of(tls.authority, directory / "ca.key")
        key = _key(tls.key, ec.SECP256R1())
        certificate = _signed("superlink", key, authority_key, hosts)
        tls.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return tls


def node_key(file: Path) -> Path:
    """Write a SuperNode's private key, and its public one as `FILE.pub`; return the private one."""
    if not file.exists():
        fresh = ec.generate_private_key(ec.SECP384R1())
        pem = fresh.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        _write_private(file, pem)
    beside = file.with_name(f"{file.name}.pub")
    if not beside.exists():  # also where an earlier try ended in between
        key = load_ssh_private_key(file.read_bytes(), None)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        beside.write_bytes(public + b"\n")
    return file


def hosts_without(certificate: Path, hosts: Sequence[str]) -> list[str]:
    """Return those of the hosts that a certificate is not for."""
    extensions = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    names = [e.value for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    known = [name for some in names for name in some]
    return [host for host in hosts if _host(host) not in known]


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m federated.keys", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", action="append", default=[], help="a name of the SuperLink's")
    parser.add_argument("--node", action="append", default=[], help="a name for a SuperNode's key")
    asked = parser.parse_args(arguments)
    try:
        tls = superlink_keys(asked.directory, asked.host or ["localhost", "127.0.0.1"])
        nodes = [node_key(asked.directory / name) for name in asked.node]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for host in hosts_without(tls.certificate, asked.host):
        sys.stderr.write(f"{tls.certificate} is from before, and not for {host}: remove it first\n")
    for file in (tls.authority, tls.certificate, tls.key, *nodes):
        sys.stderr.write(f"{file}\n")
    return 0


def _key_of(authority: Path, file: Path) -> ec.EllipticCurvePrivateKey:
    if not file.exists():
        raise ValueError(f"{file} is not here, and only the key of {authority} can sign")
    key = _key(file, ec.SECP256R1())
    certificate = x509.load_pem_x509_certificate(authority.read_bytes())
    if certificate.public_key() != key.public_key():
        raise ValueError(f"{file} is not the key of {authority}")
    return key


def _key(file: Path, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    if not file.exists():
        key = ec.generate_private_key(curve)
        _write_private(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    loaded = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{file} holds another kind of key")
    return loaded


def _write_private(file: Path, data: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
) -> x509.Certificate:
    """Return a certificate for `hosts`; without any the authority's own."""
    now = datetime.now(UTC)
    constraints = x509.BasicConstraints(ca=not hosts, path_length=None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(AUTHORITY))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + VALID)
        .add_extension(constraints, critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
