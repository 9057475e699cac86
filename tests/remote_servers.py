"""Real servers on loopback for the tests: WebDAV (wsgidav) and S3 (moto), each with a user and a password.

In: a folder to serve, or nothing. Out: the address; on leaving, the server is gone. Nothing leaves this machine.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import NEVER_S

USER, PASSWORD = "anna", "s3cret/word"


@contextmanager
def webdav_server(folder: Path) -> Iterator[str]:
    """Serve a folder by WebDAV for one user; give "host:port"."""
    from cheroot import wsgi
    from wsgidav.wsgidav_app import WsgiDAVApp

    config = {
        "host": "127.0.0.1",
        "port": 0,
        "provider_mapping": {"/": str(folder)},
        "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
        "verbose": 0,
        "logging": {"enable_loggers": []},
    }
    server = wsgi.Server(("127.0.0.1", 0), WsgiDAVApp(config), numthreads=4)
    server.shutdown_timeout = 1
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join()


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 and give its "http://host:port"; who may do what is checked after `allow_one_user`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        _tell(f"http://{host}:{port}", "reset")  # what an earlier server in this process knew
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, bucket: str) -> tuple[str, str]:
    """Make a bucket and the only user who may use it; return the user's key and secret.

    From then on the server refuses everybody else, until `lift_guard`.
    """
    import json

    import botocore.session

    def client(service: str):
        return botocore.session.Session().create_client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    client("s3").create_bucket(Bucket=bucket)
    iam = client("iam")
    iam.create_user(UserName=USER)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    _tell(endpoint, "reset-auth", b"0")
    return key["AccessKeyId"], key["SecretAccessKey"]


def lift_guard(endpoint: str) -> None:
    """Let everybody in again."""
    _tell(endpoint, "reset-auth", b"inf")


def _tell(endpoint: str, command: str, data: bytes = b"") -> None:
    import requests

    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and this machine
        session.post(f"{endpoint}/moto-api/{command}", data=data, timeout=NEVER_S).raise_for_status()
