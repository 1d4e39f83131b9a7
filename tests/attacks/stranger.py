"""What a process tries that has nothing of a run but what everybody on the machine can see.

`python stranger.py` reads JSON from standard input: `uid` (to become; null: stays), `ports`, `sockets`
and `files`. It writes what each of them answered as JSON.
"""

from __future__ import annotations

import errno
import http.client
import importlib
import json
import os
import pkgutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ray.core.generated

HTTP = (
    ("GET", "/"), ("GET", "/health"), ("GET", "/docs"), ("GET", "/openapi.json"),
    ("POST", "/v1/control/list-runs"), ("POST", "/v1/control/start-run"),
    ("POST", "/v1/runtime/pull-task-input"), ("POST", "/v1/runtime/acquire-task"),
    ("POST", "/v1/fleet/create-node"), ("POST", "/get_runtime_envs_info"),
    ("POST", "/get_or_create_runtime_env"), ("GET", "/api/jobs/"), ("GET", "/metrics"),
)  # fmt: skip
STREAM = "/ray.rpc.syncer.RaySyncer/StartSync"
NOT_IN_PYTHON = [
    f"/ray.rpc.ObjectManagerService/{each}" for each in ("Push", "Pull", "FreeObjects")
]
PATIENCE = 20.0
"""Seconds for one answer; only what hangs takes so long."""


def methods() -> list[str]:
    """Every method of every service that Ray has."""
    found = []
    for module in pkgutil.walk_packages(ray.core.generated.__path__, "ray.core.generated."):
        if module.name.endswith("_pb2"):
            services = importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
            found += [f"/{s.full_name}/{m.name}" for s in services for m in s.methods]
    return sorted({*found, *NOT_IN_PYTHON})


def by_http(port: int) -> dict[str, str]:
    """The status of each request, or how the connection ended."""
    answers = {}
    for method, path in HTTP:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=b"" if method == "POST" else None)
            answers[f"{method} {path}"] = str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            answers[f"{method} {path}"] = type(error).__name__
        finally:
            connection.close()
    return answers


def by_grpc(port: int, names: list[str], headers: list[tuple[str, str]]) -> dict[str, str]:
    """The status of each call; one that no server of gRPC's takes stands for all."""
    answers: dict[str, str] = {}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in names:
            answers[name] = _call(channel, name, headers)
            if answers[name] == "UNAVAILABLE":
                break
        else:
            answers[STREAM] = _call(channel, STREAM, headers)
    return answers


def _call(channel: grpc.Channel, name: str, headers: list[tuple[str, str]]) -> str:
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        if name != STREAM:
            yield b""
        else:
            over.wait(PATIENCE)

    node = [("node_id", "ab" * 28)] if name == STREAM else []
    try:
        for _ in channel.stream_stream(name)(
            requests(), timeout=PATIENCE, metadata=[*headers, *node]
        ):
            return "OK"
    except grpc.RpcError as error:
        return str(error.code().name)
    finally:
        over.set()
    return "OK"


def by_socket(file: str) -> str:
    """Whether a socket in the file system takes a connection, or why not."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            try:
                probe.connect(file)
            except OSError as error:
                why = errno.errorcode[error.errno or 0]
                if why != "EPROTOTYPE":
                    return why
            else:
                return "open"
    return "EPROTOTYPE"


def by_file(file: str) -> str:
    """Whether a file or folder can be read, or why not."""
    try:
        _ = [*Path(file).iterdir()] if Path(file).is_dir() else Path(file).read_bytes()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "read"


def main() -> None:
    """Do what this module says."""
    asked: dict[str, Any] = json.load(sys.stdin)
    names = methods()
    if asked["uid"] is not None:
        os.setgroups([])
        os.setgid(asked["uid"])
        os.setuid(asked["uid"])
    wrong = [("authorization", "Bearer " + "ab" * 32)]
    found = {
        "uid": os.getuid(),
        "http": {port: by_http(port) for port in asked["ports"]},
        "grpc": {port: by_grpc(port, names, []) for port in asked["ports"]},
        "wrong token": {port: by_grpc(port, names, wrong) for port in asked["ports"]},
        "sockets": {file: by_socket(file) for file in asked["sockets"]},
        "files": {file: by_file(file) for file in asked["files"]},
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
