"""A server whose certificate holds at another time: the machine's clock is what is wrong as often as not."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ASK = """
import sys
from offgridd.core.hub import HubError
from offgridd.effects.hub.content import Wires
from offgridd.effects.hub.session import ask
try:
    {what}
except HubError as error:
    print(error.failure.reason, error.failure.message)
"""


def certificate(folder: Path, start: int, end: int) -> Path:
    """One that holds from `start` to `end` days from now, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + dt.timedelta(days=start))
        .not_valid_after(now + dt.timedelta(days=end))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    both = certificate(tmp_path, *request.param)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    httpd = HTTPServer(("127.0.0.1", 0), _Answer)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{httpd.server_port}/x", both
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize(
    "what", ["ask('GET', sys.argv[1])", "Wires().open(sys.argv[1], 0, 2).__enter__()"], ids=["asked", "fetched"]
)
@pytest.mark.parametrize(
    ("server", "says"),
    [((-10, -1), "check the clock"), ((1, 10), "check the clock"), ((-1, 10), "")],
    indirect=["server"],
    ids=["expired", "not yet", "now"],
)
def test_the_clock_is_named(server: tuple[str, Path], says: str, what: str) -> None:
    url, trusted = server
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    argv = [sys.executable, "-c", ASK.format(what=what), url]
    done = subprocess.run(argv, env=env | {"SSL_CERT_FILE": str(trusted)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ("HubUnreachable" in done.stdout, says in done.stdout) == (bool(says), True), done.stdout
