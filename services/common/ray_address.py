"""Whether RAY_ADDRESS leads to a Ray cluster that this process can join, told in seconds and in a line.

Ray itself waits for minutes for an address that nobody answers at, or ends in a traceback.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Callable

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray._private.ray_constants import GLOBAL_GRPC_OPTIONS
from ray._private.services import canonicalize_bootstrap_address
from ray.core.generated import gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc

from lungforge.errors import InputError

#: Seconds for the whole check, and for each answer of the head.
CHECK_S = 10.0
_ANSWER_S = 4.0
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s\[\]:/@]+):(\d{1,5})")
_ELSE = "or unset RAY_ADDRESS to run on this machine"
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def check_address(address: str) -> None:
    """Return if a cluster can be joined by the address, after ten seconds at most.

    Args:
        address: The value of RAY_ADDRESS.

    Raises:
        InputError: It is of another kind, nobody answers there, or a cluster that this process cannot join.
    """
    address = re.sub(r"://[^/\s@]*@", "://", address.strip())  # a password is for nobody to read
    named = f"RAY_ADDRESS is {address!r}"
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"{named}, which is a dashboard's URL; run the command there with "
            f"`lungforge submit --address {address} ...`, {_ELSE} (a job joins by HOST:6379 of the head)"
        )
    if address.startswith("ray://"):
        raise InputError(
            f"{named}, which is for Ray Client, and jobs do not run through it; run the command there with "
            f"`lungforge submit --address http://HOST:8265 ...`, {_ELSE}"
        )
    if address != "auto":
        _host_and_port(address, named)
    # In a thread, as looking up a name knows no time limit, and Ctrl-C is heard meanwhile.
    outcome: list[Exception | None] = []
    threading.Thread(target=_outcome_of, args=(_check, address, named, outcome), daemon=True).start()
    deadline = threading.Event()
    for _ in range(int(CHECK_S / 0.05)):
        if outcome:
            break
        deadline.wait(0.05)
    if not outcome:
        raise InputError(
            f"{named}: it gave no answer within {CHECK_S:g} s; give HOST:6379 of the head, {_ELSE}"
        )
    if outcome[0] is not None:
        raise outcome[0]


def _outcome_of(
    check: Callable[[str, str], None], address: str, named: str, outcome: list[Exception | None]
) -> None:
    try:
        check(address, named)
    except Exception as error:
        outcome.append(error)
    else:
        outcome.append(None)


def _host_and_port(address: str, named: str) -> tuple[str, int]:
    parts = _HOST_AND_PORT.fullmatch(address)
    if parts is None or not 0 < int(parts[2]) < 65536:
        raise InputError(f"{named}; give HOST:6379 of the cluster's head, {_ELSE}")
    return parts[1].strip("[]"), int(parts[2])


def _check(address: str, named: str) -> None:
    try:
        # What Ray would connect to: for a loopback address, often another one of this machine.
        found = canonicalize_bootstrap_address(address) or ""
    except ConnectionError:
        raise InputError(
            f"{named}, and no Ray cluster runs on this machine; start one: `ray start --head`, {_ELSE}"
        ) from None
    if found != address:
        named = f"{named} ({found})"
    host, port = _host_and_port(found, named)
    try:
        socket.create_connection((host, port), timeout=_ANSWER_S).close()
    except socket.gaierror:
        raise InputError(
            f"{named}: there is no host {host}; give HOST:6379 of the cluster's head, {_ELSE}"
        ) from None
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise InputError(
            f"{named}: no Ray cluster there ({reason.lower()}); start it, or give HOST:6379 of the head, "
            f"{_ELSE}"
        ) from None
    _ask_head(found, named)


def _ask_head(address: str, named: str) -> None:
    """Ask what listens there whether it is a head, of this version of Ray, and of which hosts."""
    channel = init_grpc_channel(address, GLOBAL_GRPC_OPTIONS)
    with contextlib.closing(channel):
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            alive = head.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=_ANSWER_S)
            hosts = head.GetAllNodeInfo(
                gcs_service_pb2.GetAllNodeInfoRequest(), timeout=_ANSWER_S
            ).node_info_list
        except grpc.RpcError as error:
            if error.code() in _REFUSED:
                raise InputError(
                    f"{named}: the cluster refuses the token; set RAY_AUTH_MODE=token, and "
                    "RAY_AUTH_TOKEN_PATH to the file with this cluster's token"
                ) from None
            raise InputError(
                f"{named}: something answers there that is no Ray head; give HOST:6379 of the head "
                f"(8265 is the dashboard's port: for `lungforge submit --address http://HOST:8265`), {_ELSE}"
            ) from None
    if alive.ray_version and alive.ray_version != ray.__version__:
        raise InputError(
            f"{named}: the cluster runs Ray {alive.ray_version}, and this is Ray {ray.__version__}; "
            "install the same version on both"
        )
    addresses = [host.node_manager_address for host in hosts if host.state == gcs_pb2.GcsNodeInfo.ALIVE]
    if addresses and not any(map(_is_here, addresses)):
        raise InputError(
            f"{named}: this machine is none of the {len(addresses)} hosts of that cluster; run the command "
            "there with `lungforge submit --address http://HOST:8265 ...`, or add this machine with "
            f"`ray start --address {address}`"
        )


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's; True where that cannot be told."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.bind(place)
    except socket.gaierror:
        return True
    except OSError:
        return False
    return True
