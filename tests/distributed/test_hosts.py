"""Several real processes over loopback: one run, its data shared, its result that of one process."""

import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import types

import chex
import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv

from gan_jax.distributed import hosts
from gan_jax.distributed.hosts import HostsError
from gan_jax.runs import across_processes, loop
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir, WorkdirError
from gan_jax.training.step import init_state
from tests.distributed import hosts_experiment
from tests.distributed.hosts_experiment import BATCH, SIZE

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXPERIMENT = str(pathlib.Path(hosts_experiment.__file__).relative_to(ROOT))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(count, *arguments, of_each=()):
    """`count` processes of one launch, a device each; `of_each` has further arguments of each process."""
    port = free_port()
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    joint = ("launch.py", f"--config={EXPERIMENT}", f"--coordinator=127.0.0.1:{port}")
    return [
        subprocess.Popen(
            [
                sys.executable,
                *joint,
                f"--num_processes={count}",
                f"--process_id={i}",
                *arguments,
                *(of_each[i : i + 1]),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        for i in range(count)
    ]


def finish(processes, timeout=240):
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def launch(count, *arguments):
    codes, said = finish(start(count, *arguments))
    assert codes == [0] * count, said
    return said


def make_experiment(rounds):
    config = hosts_experiment.get_config()
    config.rounds = rounds
    return hosts_experiment.build(config)


def restored(workdir, step):
    game = make_experiment(1).game
    target = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(target, step, shardings=one).state)


@pytest.mark.full
def test_two_processes_then_four_play_the_run_of_one(tmp_path):
    """Parameters to 1e-6; the same log; every example once an epoch, though the number of processes changes
    within it; process 0 alone writes and speaks."""
    notes = tmp_path / "notes"
    notes.mkdir()
    workdir = tmp_path / "run"
    arguments = (f"--workdir={workdir}", f"--config.notes={notes}")
    first = launch(2, *arguments, "--config.rounds=3")
    second = launch(4, *arguments, "--config.rounds=6")
    single = loop.train(make_experiment(6), Workdir(tmp_path / "alone"), log=lambda line: None)

    for place, (found, expected) in enumerate(
        zip(jax.tree.leaves(restored(workdir, 6)), jax.tree.leaves(jax.device_get(single)), strict=True)
    ):
        if not jax.dtypes.issubdtype(found.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(place))

    logs = [
        [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(Workdir(path))]
        for path in (workdir, tmp_path / "alone")
    ]
    assert [line["step"] for line in logs[0]] == [3, 6]
    chex.assert_trees_all_close(*logs, rtol=1e-5, atol=1e-6)

    for said, count in ((first, 2), (second, 4)):
        assert "Trained" in said[0][0]
        assert not [line for out, _ in said[1:] for line in out.splitlines() if "[Gloo]" not in line]
        assert all("rounds/s" not in err for _, err in said[1:])
        assert len(list(notes.glob(f"*-of-{count}-*"))) == count
    # Rounds 0 to 2 took 3 x 2 x 8 = 48 of the epoch's 64 examples, 24 a process; the next 16 end it, 4 each.
    read = {path.name: [int(i) for i in path.read_text().split()] for path in notes.iterdir()}
    early = [numbers for name, numbers in read.items() if "-of-2-" in name]
    late = [numbers for name, numbers in read.items() if "-of-4-" in name]
    assert [len(numbers) for numbers in early] == [24, 24]
    assert [len(numbers) for numbers in late] == [12] * 4
    epoch = [*early, *(numbers[: 2 * BATCH // 4] for numbers in late)]
    assert sorted(i for numbers in epoch for i in numbers) == list(range(SIZE))


def wait_for(path, processes, seconds=200):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.02)


@pytest.mark.full
def test_a_lost_process_ends_the_others_and_is_named(tmp_path):
    """Also: nobody else gets the work directory meanwhile, and the last checkpoint stays good."""
    arguments = ("--config.rounds=100000000", "--config.checkpoint_every=20", f"--workdir={tmp_path}")
    processes = start(2, *arguments)
    wait_for(tmp_path / "checkpoints" / "20" / "manifest.json", processes)
    with pytest.raises(WorkdirError, match="in use by process"):
        loop.train(make_experiment(1), Workdir(tmp_path), log=lambda line: None)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    codes, said = finish(processes, timeout=60)
    assert time.monotonic() - killed < 60
    assert codes[0] not in (0, None)
    assert codes[1] == -signal.SIGKILL
    assert "launch.py (process 0): Process 1 of 2 was lost" in said[0][1], said[0][1]
    assert Checkpoints(tmp_path / "checkpoints").latest_valid() >= 20


@pytest.mark.full
def test_a_process_with_another_configuration_is_refused_before_a_round_is_played(tmp_path):
    """Each would compute its share of a gradient by its own formula, and nobody would notice."""
    fields = ("--config.checkpoint_every=0", "--config.checkpoint_every=1")
    codes, said = finish(start(2, f"--workdir={tmp_path / 'run'}", of_each=fields))
    assert codes == [2, 2], said
    for _, err in said:
        assert (
            "Process 1 would train something else than process 0: --config.checkpoint_every is 1 there" in err
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_process_that_does_not_see_the_work_directory_is_refused(tmp_path):
    """Its parts of the checkpoints would be where no other process finds them."""
    places = tuple(f"--workdir={tmp_path / name}" for name in ("here", "there"))
    codes, said = finish(start(2, of_each=places))
    assert codes == [2, 2], said
    assert f"does not see the work directory {tmp_path / 'there'} of process 0" in said[1][1]
    assert "Process 1 failed: see its message" in said[0][1]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"lr": "0.5"}, "Process 1 would train something else than process 0: lr is 0.5 there and 0.05 on"),
        ({"jax": "2"}, "jax is 2 there and 1 on process 0"),
        ({"the data x": "float32[64, 2] sha256:0"}, "the data x is float32"),
    ],
)
def test_what_another_process_would_train_otherwise_is_named(monkeypatch, other, said):
    ours = {"lr": "0.05", "jax": "1"}
    everyone = [ours, ours | other, ours]
    texts = [json.dumps(each, sort_keys=True).encode() for each in everyone]
    monkeypatch.setattr(
        "gan_jax.processes.gather_bytes", lambda _: [hashlib.sha256(text).digest() for text in texts]
    )
    monkeypatch.setattr("gan_jax.processes.gather", lambda _: everyone)
    with pytest.raises(HostsError, match=re.escape(said)):
        across_processes.refuse_others(ours)


@pytest.mark.parametrize("there", [None, b"{}"])
def test_a_work_directory_that_is_not_process_0s_is_refused(tmp_path, monkeypatch, there):
    """A directory without its lock, and one with that of another launch."""
    if there is not None:
        (tmp_path / ".lock").write_bytes(there)
    monkeypatch.setattr(hosts, "several", lambda: True)
    monkeypatch.setattr(hosts, "first", lambda: False)
    monkeypatch.setattr(hosts, "agree", lambda *numbers: np.asarray([[0], numbers]))
    monkeypatch.setattr("gan_jax.processes.gather_bytes", lambda _: [b'{"pid": 7}', b""])
    with pytest.raises(HostsError, match=r"does not see the work directory .* of process 0"):
        across_processes.refuse_unshared(Workdir(tmp_path), seconds=0.1)
    (tmp_path / ".lock").write_bytes(b'{"pid": 7}')
    across_processes.refuse_unshared(Workdir(tmp_path), seconds=0.1)


def test_processes_that_train_the_same_go_on(monkeypatch):
    monkeypatch.setattr("gan_jax.processes.gather_bytes", lambda payload: [payload, payload])
    across_processes.refuse_others({"lr": "0.05"})


@pytest.mark.slow
def test_a_process_that_hangs_is_named_within_a_minute(tmp_path):
    processes = start(2, "--config.rounds=100000000", "--config.checkpoint_every=20", f"--workdir={tmp_path}")
    wait_for(tmp_path / "checkpoints" / "20" / "manifest.json", processes)
    processes[1].send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert processes[0].wait(timeout=60) != 0
    assert time.monotonic() - stopped < 60
    processes[1].kill()
    _, said = finish(processes)
    assert "launch.py: Process 1 of 2 gave no sign of life" in said[0][1], said[0][1]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_saves(tmp_path):
    processes = start(2, "--config.rounds=100000000", "--config.checkpoint_every=20", f"--workdir={tmp_path}")
    wait_for(tmp_path / "checkpoints" / "20" / "manifest.json", processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = finish(processes, timeout=60)
    assert codes == [0, 0], said
    file = pathlib.Path(hosts_experiment.__file__)
    assert f"Go on with: python launch.py --config={file} --workdir={tmp_path}" in said[0][0]
    saved = Checkpoints(tmp_path / "checkpoints").latest_valid()
    assert f"Stopped by SIGTERM at round {saved}, saved" in said[0][0]


class Texts:
    """A store in memory that counts what it is asked."""

    def __init__(self):
        self.texts, self.read, self.written = {}, 0, 0

    def set(self, name, value):
        self.written += 1
        self.texts[name] = value

    def get(self, name):
        self.read += 1
        return self.texts.get(name)

    def under(self, prefix):
        found = {
            name.removeprefix(prefix): text for name, text in self.texts.items() if name.startswith(prefix)
        }
        self.read += len(found)
        return found


def test_a_beat_of_many_processes_costs_a_few_reads_for_each():
    store = Texts()
    beats = [hosts.Heartbeat(store, process, 1000) for process in range(1000)]
    for _ in range(2):
        store.read = store.written = 0
        assert not [lost for heartbeat in beats[1:] for lost in heartbeat.beat()]
        assert beats[0].beat() == []
    assert store.written == 1000
    assert store.read == 999 + 999


@pytest.mark.parametrize("hanging", [0, 2])
def test_every_process_learns_who_hangs(hanging):
    """Also: one that was suspended with all others has lost nobody."""
    store = Texts()
    beats = [hosts.Heartbeat(store, process, 4) for process in range(4)]
    for heartbeat in beats:
        assert heartbeat.beat() == []
    found = {process: [] for process in range(4) if process != hanging}
    for _ in range(hosts._MISSED_BEATS + 1):
        for process in found:
            found[process].append(beats[process].beat())
    assert all(lists[-1] == [hanging] for lists in found.values()), found
    assert all(lists[hosts._MISSED_BEATS - 3] == [] for lists in found.values())


STORE = """
import sys
import jax
from gan_jax.distributed.service import Store
jax.distributed.initialize(sys.argv[1], 1, 0)
store = Store()
print(store.get("gan_jax/a"))
store.set("gan_jax/a/1", "x")
store.set("gan_jax/a/1", "y")
store.set("gan_jax/a/12", "z")
print(store.get("gan_jax/a/1"), store.under("gan_jax/a/"))
"""


@pytest.mark.full
def test_jaxs_service_keeps_texts_by_name():
    command = [sys.executable, "-c", STORE, f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["None", "y {'1': 'y', '12': 'z'}"], done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("127.0.0.1:1", 2, None), "all three"),
        ((None, 2, 1), "all three"),
        (("localhost", 2, 1), "HOST:PORT of process 0, got 'localhost'"),
        (("localhost:1", 2, 2), "--process_id is 0 to 1, got 2"),
    ],
)
def test_half_a_description_of_processes_is_refused(given, said):
    with pytest.raises(HostsError, match=said):
        hosts.join(*given)


def test_a_single_process_does_not_join_others(monkeypatch):
    """Whatever the environment says of a job; nothing is waited for."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: pytest.fail("joined"))
    monkeypatch.setenv("SLURM_NTASKS", "4")
    hosts.join(num_processes=1)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    hosts.join()
    assert not hosts.several()
    np.testing.assert_array_equal(hosts.agree(3, 0), [[3, 0]])


def test_processes_that_a_job_has_started_find_one_another(monkeypatch):
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: called.append(args))
    monkeypatch.setattr(jax.config, "update", lambda *args: None)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    hosts.join()
    assert called == [(None, None, None)]


def test_the_processes_play_as_many_rounds_as_the_slowest_and_stop_at_the_same_round(monkeypatch):
    interrupt = Interrupt()
    monkeypatch.setattr(hosts, "agree", lambda *mine: np.array([mine, (3, 0)]))
    assert interrupt.agree(7) == (3, False)
    monkeypatch.setattr(hosts, "agree", lambda *mine: np.array([mine, (9, signal.SIGTERM)]))
    assert interrupt.agree(7) == (7, True)
    assert interrupt.by == "SIGTERM"


JOIN = """
import sys
from gan_jax.distributed import hosts
try:
    print(hosts.join(sys.argv[1], 3, int(sys.argv[2]), seconds=int(sys.argv[3])))
except hosts.HostsError as error:
    print(error)
"""


@pytest.mark.full
def test_a_process_that_never_comes_is_named():
    """Process 2 of 3; each of the others ends with a line, and JAX's runtime aborts none of them."""
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN, address, str(i), "10"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    codes, said = finish(processes, timeout=120)
    assert codes == [0, 0], said
    assert said[0][0].startswith(f"Process 2 of 3 did not join the others at {address} within 10 s"), said
    assert said[1][0].startswith(f"Process 1 could not join the others at {address} within 10 s"), said
    assert not any(err for _, err in said), said


@pytest.fixture
def unused_jax(monkeypatch):
    """JAX's own detection of clusters, as in a process that has not used JAX yet; nothing is joined."""

    def initialize(*given, **options):
        found = ClusterEnv.auto_detect_unset_distributed_params(*given, None, None, 300)
        if found[0] is None:
            raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax.config, "update", lambda *args: None)


def test_a_pod_without_the_client_package_does_not_train_by_itself(monkeypatch, unused_jax):
    """Only the cluster knows how many there are: pods of a job that is not indexed have no number."""
    assert not hosts.join()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(HostsError, match=r"pip install kubernetes; or give .* or --num_processes=1"):
        hosts.join()
    assert not hosts.join(num_processes=1)
    assert not hosts.join(by_itself=True), "nothing is trained"


def test_a_pod_that_may_not_ask_for_the_others_does_not_train_by_itself(monkeypatch, unused_jax):
    class Refused(Exception):
        pass

    def load():
        raise Refused("Service host/port is not set.")

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    client = types.SimpleNamespace(config=types.SimpleNamespace(load_incluster_config=load))
    monkeypatch.setitem(sys.modules, "kubernetes", client)
    with pytest.raises(
        HostsError, match=r"could not find one another \(Service host/port is not set\.\): give"
    ):
        hosts.join()
    assert not hosts.join(by_itself=True)


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE"])
def test_a_process_of_a_launcher_that_jax_does_not_know_does_not_train_by_itself(
    name, monkeypatch, unused_jax
):
    monkeypatch.setenv(name, "4")
    with pytest.raises(HostsError, match=f"{name}=4 says that this is one of several"):
        hosts.join()
    monkeypatch.setenv(name, "1")
    assert not hosts.join()
