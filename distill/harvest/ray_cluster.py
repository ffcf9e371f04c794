"""The Ray cluster a harvest runs on: that of RAY_ADDRESS, or one on this machine for the length of a `with`.

    with cluster():
        workers = num_workers(recipe.executor, is_endpoint=False)

Ray's usage reports and dashboard are off for a cluster that is started here. A Ray that the caller has initialised is
used as it is, and left so. Not covered: starting clusters of several machines (`ray start`, or your launcher).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from distill.errors import ConfigError, InfrastructureError
from distill.recipes import Executor

CONNECT_SECONDS = 20.0
OBJECT_STORE_BYTES = 128 * 2**20
"""Problems and summaries pass through it; samples go to the ledger's process."""
MOST_TEMP_DIR_CHARACTERS = 30
"""Ray puts Unix sockets below it, whose paths may have 107 characters."""


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Raises: ConfigError (no Ray, an address of Ray Client), InfrastructureError (no cluster at RAY_ADDRESS)."""
    ray = _import_ray()
    _be_quiet(ray)
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise ConfigError(
            f"RAY_ADDRESS={address}: Ray Client keeps the driver outside the cluster, but the ledger is on the "
            "driver's machine; run distill on a node of the cluster, with HOST:PORT."
        )
    _check_reachable(address)
    temp_dir = None if address else tempfile.mkdtemp(prefix="ray-", dir=_short_temp_dir())
    try:
        _connect(ray, address, temp_dir)
        yield
    finally:
        ray.shutdown()
        if temp_dir is not None:
            shutil.rmtree(temp_dir, ignore_errors=True)


def num_workers(settings: Executor, *, is_endpoint: bool) -> int:
    """What the recipe says; else one a node for endpoints, as many as fit for models that the workers load.

    Raises: InfrastructureError where no node has room for one.
    """
    import ray

    gpus = gpus_per_worker(settings, is_endpoint=is_endpoint)
    rooms = [_room(node["Resources"], settings.cpus_per_worker, gpus) for node in ray.nodes() if node["Alive"]]
    if not any(rooms):
        raise InfrastructureError(
            f"ray: none of {len(rooms)} nodes has room for a worker of {settings.cpus_per_worker:g} CPUs and {gpus:g} "
            "GPUs; set executor.cpus_per_worker or executor.gpus_per_worker."
        )
    return settings.workers or (sum(room > 0 for room in rooms) if is_endpoint else sum(rooms))


def gpus_per_worker(settings: Executor, *, is_endpoint: bool) -> float:
    """One where the cluster has any and the workers load the model, unless the recipe says else."""
    import ray

    if settings.gpus_per_worker is not None:
        return settings.gpus_per_worker
    return 1.0 if not is_endpoint and ray.cluster_resources().get("GPU", 0) else 0.0


def _room(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """How many workers a node takes."""
    by_gpu = resources.get("GPU", 0) / gpus if gpus else float("inf")
    return int(min(resources.get("CPU", 0) / cpus, by_gpu))


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"--executor ray: {error}; install Ray with `pip install 'ray[data]'`, or leave --executor out."
        ) from error
    return ray


def _be_quiet(ray: Any) -> None:
    """The live line is ours; what goes wrong is still said."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _check_reachable(address: str) -> None:
    """Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if not host:  # nothing, "auto", "local"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"ray: no cluster at RAY_ADDRESS={address} ({error}); start one with `ray start --head`, or unset "
            "RAY_ADDRESS for one on this machine."
        ) from error


def _connect(ray: Any, address: str, temp_dir: str | None) -> None:
    own: dict[str, Any] = {"address": address}
    if not address:
        own = {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": temp_dir,
        }
    is_main = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        where = f"no cluster at RAY_ADDRESS={address}" if address else "no cluster could be started here"
        raise InfrastructureError(f"ray: {where}: {reason}. Everything finished so far is saved.") from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own there, which ends the process at once


def _short_temp_dir() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= MOST_TEMP_DIR_CHARACTERS else "/tmp"
