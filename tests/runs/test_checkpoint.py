import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import textwrap
import warnings

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from gan_jax.runs import checkpoint, sealing
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints, CheckpointWarning
from gan_jax.runs.leaves import leaf_names
from gan_jax.runs.steps import MEASURED_BY
from gan_jax.training.experiment import Best


def small_state(scale=1.0):
    return {"w": scale * jnp.arange(6.0).reshape(2, 3), "step": jnp.int32(3)}


def varied_state():
    params = {"Dense_0": {"kernel": jax.random.normal(jax.random.key(0), (4, 8)), "bias": jnp.zeros(8)}}
    return {
        "params": params,
        "opt": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4), (2, 3)),
        "rbg": jax.random.key(5, impl="rbg"),
        "raw": jax.random.PRNGKey(6),
        "half": jnp.arange(7.0, dtype=jnp.bfloat16) / 3,
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42], jnp.float32),
        "flags": jnp.array([True, False, True]),
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.int32(-7),
        "large": jax.random.normal(jax.random.key(7), (700, 600)),
        "host": np.arange(5, dtype=np.int64),
        "host_large": np.arange(300_000, dtype=np.float64),
        "nothing": (None, (), {}),
    }


def bits(leaf):
    """Dtype, shape and bytes: equal for bit-identical arrays only, NaN and signed zero included."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return str(leaf.dtype), bits(jax.random.key_data(leaf))
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def assert_same_bits(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for name, a, b in zip(leaf_names(tree), jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert bits(a) == bits(b), name


def save_some(directory, *steps, **options):
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, small_state(step), payload=b"position %d" % step)
    return checkpoints


def files_of(directory, step):
    root = pathlib.Path(directory) / str(step)
    return sorted(path for path in root.rglob("*") if path.is_file())


# ---------------------------------------------------------------------------------------------------------
# What is saved comes back


def test_a_digest_is_of_one_save(tmp_path):
    """A step that is saved again, after other training, is another; an amendment makes no difference."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, small_state(), blocking=True)
        first = checkpoints.digest(5)
        checkpoints.amend(5, metrics={"frechet": 1.0})
        checkpoints.wait()
        assert checkpoints.digest(5) == first
        step, digest, arrays = checkpoints.read(["w"])
        assert (step, digest) == (5, first)
        assert arrays["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, small_state(), blocking=True)
        assert checkpoints.restore(small_state()).digest == checkpoints.digest(5) != first


def test_the_best_are_compared_with_what_was_measured_alike(tmp_path):
    with Checkpoints(tmp_path, keep=1, best=Best("d")) as checkpoints:
        for step, by, number in ((1, "pixels", 0.5), (2, "inception", 70.0), (3, "inception", 90.0)):
            checkpoints.save(
                step, small_state(step), metrics={"d": number}, metadata={MEASURED_BY: by}, blocking=True
            )
        assert checkpoints.best() == 2
        assert checkpoints.steps() == [1, 2, 3]


def test_every_kind_of_leaf_returns_bit_for_bit(tmp_path):
    state = varied_state()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(500, state, metadata={"cursor": [1, 2], "note": "é"}, payload=b"\x00\xff")
        restored = checkpoints.restore(state)
    assert_same_bits(restored.state, state)
    assert (restored.step, restored.metadata, restored.payload) == (
        500,
        {"cursor": [1, 2], "note": "é"},
        b"\x00\xff",
    )
    assert isinstance(restored.state["host"], np.ndarray)
    assert isinstance(restored.state["host_large"], np.ndarray)


def test_a_target_without_values_is_enough(tmp_path):
    state = {name: leaf for name, leaf in varied_state().items() if not name.startswith("host")}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state)
    assert_same_bits(Checkpoints(tmp_path).restore(jax.eval_shape(lambda: state)).state, state)


@pytest.mark.parametrize("size", [4, 600])
def test_leaves_go_where_the_target_says(tmp_path, size):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    values = np.arange(8 * size * size, dtype=np.float32).reshape(8, size * size)
    state = {
        "split": jax.device_put(values, split),
        "whole": jax.device_put(values, whole),
        "key": jax.device_put(jax.random.key(1), whole),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        same = checkpoints.restore(state).state
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)
        spread = checkpoints.restore(shapes).state
        third = SingleDeviceSharding(jax.devices()[3])
        moved = checkpoints.restore(shapes, shardings=third).state
        mixed = checkpoints.restore(shapes, shardings={"split": third, "whole": None, "key": whole}).state
    for restored, places in (
        (same, [whole, split, whole]),
        (spread, [whole] * 3),
        (moved, [third] * 3),
        (mixed, [whole, third, whole]),
    ):
        assert_same_bits(restored, state)
        assert [leaf.sharding for leaf in jax.tree.leaves(restored)] == places


def test_a_save_is_of_the_moment_of_the_call_although_the_state_is_donated_on(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = {"small": jnp.zeros(64), "large": jnp.zeros((1000, 1000))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, state)
        for _ in range(10):
            state = step(state)
        restored = checkpoints.restore(state).state
        assert all((np.asarray(leaf) == 0).all() for leaf in restored.values())
        onward = step(restored)  # and what was restored can itself be donated
    assert all((np.asarray(leaf) == 1).all() for leaf in onward.values())


def test_the_same_step_is_written_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.save(5, small_state())
        assert not checkpoints.save(5, small_state(), blocking=True)
        assert checkpoints.steps() == [5]
    again = Checkpoints(tmp_path)
    again.restore(small_state())
    assert not again.save(5, small_state())


@pytest.mark.parametrize(
    "files", [("results.txt",), ("_CHECKPOINT_METADATA", "state/d/0"), ("manifest.json", "index.html"), None]
)
def test_what_is_nobodys_step_is_neither_pruned_nor_replaced(tmp_path, files):
    """Folders 0, 1, ... of seeds, and checkpoints of another library, went as if their saves had been cut."""
    for number in (1, 9, 20):
        for name in files or ():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        if files is None:
            (tmp_path / str(number)).write_text("a file")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(8, small_state())
            checkpoints.save(10, small_state(), blocking=True)
            checkpoints.discard_after(10)
            assert (checkpoints.steps(), checkpoints.latest_valid()) == ([10], 10)
            with pytest.raises(CheckpointError, match="20 is there and is no checkpoint: move it"):
                checkpoints.save(20, small_state())
    assert (
        before.items() <= {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}.items()
    )


@pytest.mark.parametrize(
    "left",
    [
        "state.orbax-checkpoint-tmp/d/0",
        "payload/0",
        ".manifest.json.ab.tmp",
        ".manifest.json.Ab12Cd",
        ".DS_Store",
    ],
)
def test_what_a_cut_save_has_left_is_cleared_away(tmp_path, left):
    path = tmp_path / "3" / left
    path.parent.mkdir(parents=True)
    path.write_text("cut")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(4, small_state(), blocking=True)
    assert not (tmp_path / "3").exists()


def test_what_another_branch_left_at_a_step_is_replaced(tmp_path):
    save_some(tmp_path, 1, 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(small_state(), step=1).payload == b"position 1"
        checkpoints.save(2, small_state(9.0))
        np.testing.assert_array_equal(checkpoints.restore(small_state()).state["w"], small_state(9.0)["w"])


def test_later_steps_can_be_discarded(tmp_path):
    checkpoints = save_some(tmp_path, 1, 2, 3)
    assert checkpoints.discard_after(1) == [2, 3]
    assert checkpoints.steps() == [1]


def test_payload_and_metadata_are_optional(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, small_state())
        restored = checkpoints.restore(small_state())
    assert restored.payload is None
    assert restored.metadata == {}


def test_what_is_no_array_or_no_json_is_refused_before_anything_is_written(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        with pytest.raises(TypeError, match=r"holds arrays, but a\.b is a str"):
            checkpoints.save(0, {"a": {"b": "text"}})
        with pytest.raises(TypeError, match=r"metadata\.when is a object, which JSON cannot hold"):
            checkpoints.save(0, small_state(), metadata={"when": object()})
        with pytest.raises(TypeError, match="target's w is a float"):
            checkpoints.restore({"w": 1.0})
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------------------------------------
# Damage


def flip_a_bit(path, position):
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= 1 << 5
    path.write_bytes(data)


def test_a_flipped_bit_in_any_file_is_seen(tmp_path):
    checkpoints = save_some(tmp_path, 1, 2)
    files = files_of(tmp_path, 2)
    assert {"manifest.json", "0", "_METADATA", "manifest.ocdbt"} <= {file.name for file in files}
    for file in files:
        for position in (0.0, 0.37, 1.0):
            whole = file.read_bytes()
            if not whole:
                continue
            flip_a_bit(file, position)
            with pytest.warns(CheckpointWarning, match=f"Checkpoint 2 .* is passed over: .*{file.name}"):
                assert checkpoints.latest_valid() == 1, file
            file.write_bytes(whole)
    assert checkpoints.latest_valid() == 2


def test_every_byte_of_the_manifest_counts(tmp_path):
    path = tmp_path / "7"
    path.mkdir()
    content = {"format": 1, "step": 7, "metadata": {}, "metrics": {}, "leaves": {}, "files": {}}
    sealed = sealing.seal(content)
    (path / "manifest.json").write_bytes(sealed)
    assert Checkpoints(tmp_path).manifest(7)["step"] == json.loads(sealed)["step"] == 7
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1 << place % 8
        (path / "manifest.json").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged manifest\.json"):
            Checkpoints(tmp_path).manifest(7)


def test_truncation_and_loss_of_any_file_are_seen(tmp_path):
    checkpoints = save_some(tmp_path, 1, 2)
    for file in files_of(tmp_path, 2):
        whole = file.read_bytes()
        lengths = [length for length in (0, len(whole) // 2, len(whole) - 1) if 0 <= length < len(whole)]
        for length in lengths:
            file.write_bytes(whole[:length])
            with pytest.warns(CheckpointWarning, match=file.name):
                assert checkpoints.latest_valid() == 1
        file.unlink()
        with pytest.warns(CheckpointWarning, match=r"lacks the file|has no manifest"):
            assert checkpoints.latest_valid() == 1
        file.write_bytes(whole)
    assert checkpoints.latest_valid() == 2


def test_restore_falls_back_over_damaged_steps_and_says_so(tmp_path):
    checkpoints = save_some(tmp_path, 1, 2, 3)
    (tmp_path / "3" / "manifest.json").unlink()
    flip_a_bit(tmp_path / "2" / "state" / "_METADATA", 0.5)
    with pytest.warns(CheckpointWarning) as warned:
        restored = checkpoints.restore(small_state())
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 2
    assert "Checkpoint 3" in messages[0]
    assert "its save did not finish" in messages[0]
    assert "Checkpoint 2" in messages[1]
    assert "sha256 differs" in messages[1]
    assert (restored.step, restored.payload) == (1, b"position 1")
    assert_same_bits(restored.state, small_state(1))


def test_a_step_that_was_asked_for_is_not_replaced_by_another(tmp_path):
    checkpoints = save_some(tmp_path, 1, 2)
    (tmp_path / "2" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"Checkpoint 2 .* has no manifest"):
        checkpoints.restore(small_state(), step=2)
    with pytest.raises(CheckpointError, match=r"There is no checkpoint 9 in .*: there are \[1\]"):
        checkpoints.restore(small_state(), step=9)


def test_a_step_deleted_under_the_readers_hands_is_replaced_by_a_newer_one(tmp_path, monkeypatch):
    checkpoints = save_some(tmp_path, 1)
    load = checkpoint.load

    def load_late(*arguments):
        if checkpoints.steps() == [1]:  # a run that trains there saves another and deletes this one
            save_some(tmp_path, 2, keep=1)
        return load(*arguments)

    monkeypatch.setattr(checkpoint, "load", load_late)
    assert checkpoints.restore(small_state()).step == 2


@pytest.mark.parametrize("read", [Checkpoints.restore, Checkpoints.read])
def test_a_step_that_was_asked_for_and_is_deleted_meanwhile_is_named_so(tmp_path, monkeypatch, read):
    checkpoints = save_some(tmp_path, 1)

    def load_late(*arguments):
        save_some(tmp_path, 2, keep=1)
        raise FileNotFoundError("state not found")

    monkeypatch.setattr(checkpoint, "load", load_late)
    monkeypatch.setattr(checkpoint, "load_arrays", load_late)
    wanted = small_state() if read is Checkpoints.restore else []
    with pytest.raises(
        CheckpointError, match=r"Checkpoint 1 in .* was deleted while it was being read: .* Try again\."
    ):
        read(checkpoints, wanted, 1)


def test_arrays_deleted_under_the_readers_hands_are_those_of_a_newer_step(tmp_path, monkeypatch):
    checkpoints = save_some(tmp_path, 1)
    load = checkpoint.load_arrays

    def load_late(*arguments):
        if checkpoints.steps() == [1]:
            save_some(tmp_path, 2, keep=1)
        return load(*arguments)

    monkeypatch.setattr(checkpoint, "load_arrays", load_late)
    name = next(iter(checkpoints.manifest(1)["leaves"]))
    step, _, arrays = checkpoints.read([name])
    assert step == 2
    assert list(arrays) == [name]


def test_nothing_to_restore_is_one_clear_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no checkpoint in .*: train there first"):
        Checkpoints(tmp_path / "nowhere").restore(small_state())
    save_some(tmp_path, 1)
    (tmp_path / "1" / "manifest.json").unlink()
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match=r"None of the checkpoints \[1\] .* is undamaged"),
    ):
        Checkpoints(tmp_path).restore(small_state())


def test_another_structure_names_its_leaves(tmp_path):
    save_some(tmp_path, 1)
    target = {"w": jnp.zeros((2, 4)), "step": jnp.zeros(()), "players": {"critic": jnp.zeros(1)}}
    with pytest.raises(CheckpointError) as raised:
        Checkpoints(tmp_path).restore(target)
    message = str(raised.value)
    assert "it lacks players.critic" in message
    assert "w is float32[2, 3] there and float32[2, 4] here" in message
    assert "step is int32[] there and float32[] here" in message
    assert "\n" not in message
    with pytest.raises(CheckpointError, match="it has step, which is not expected"):
        Checkpoints(tmp_path).restore({"w": jnp.zeros((2, 3))})
    with pytest.raises(CheckpointError, match="and 1 more"):
        Checkpoints(tmp_path).restore({"a": jnp.zeros(1), "b": jnp.zeros(1)})


def test_a_manifest_leads_nowhere_else(tmp_path):
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    entry = {"bytes": 6, "sha256": sealing.hash_file(epath.Path(outside))[1]}
    content = {"format": 1, "step": 1, "metadata": {}, "metrics": {}, "leaves": {}}
    path = tmp_path / "all" / "1"
    path.mkdir(parents=True)
    for name in ("../../secret", str(outside)):
        (path / "manifest.json").write_bytes(sealing.seal({**content, "files": {name: entry}}))
        with pytest.warns(CheckpointWarning, match="leads outside"):
            assert Checkpoints(tmp_path / "all").latest_valid() is None


@pytest.mark.full
@hypothesis.settings(
    max_examples=200, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
        ).map(lambda value: sealing._with_digest(json.dumps(value).encode()[1:])),
        st.fixed_dictionaries(
            {
                "format": st.just(1),
                "step": st.just(3),
                **{name: st.none() | st.just({}) for name in ("metadata", "metrics")},
                "leaves": st.dictionaries(st.text(max_size=3), st.none() | st.just({"shape": 1}), max_size=2),
                "files": st.dictionaries(
                    st.text(max_size=3), st.none() | st.just({"bytes": "x"}), max_size=2
                ),
            }
        ).map(sealing.seal),
    )
)
def test_any_manifest_is_read_or_refused_in_words(tmp_path, data):
    path = tmp_path / "3"
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_bytes(data)
    try:
        assert isinstance(Checkpoints(tmp_path).manifest(3)["files"], dict)
    except CheckpointError as error:
        assert "Checkpoint 3" in str(error)  # noqa: PT017 - either outcome is right, another error is not


# ---------------------------------------------------------------------------------------------------------
# Retention


def test_the_best_and_the_newest_stay_on_disk(tmp_path):
    scores = {1: 5.0, 2: 1.0, 3: float("nan"), 4: 3.0, 5: 4.0}
    with Checkpoints(tmp_path, keep=2, best=Best("distance")) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, small_state(step), metrics={"distance": score}, blocking=True)
            assert checkpoints.steps()[-1] == step
        assert checkpoints.steps() == [2, 4, 5]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4", "5"]
        assert checkpoints.best() == 2
        assert_same_bits(checkpoints.restore(small_state(), step=checkpoints.best()).state, small_state(2))


def test_what_cannot_be_deleted_harms_no_save_and_half_a_deletion_is_no_checkpoint(tmp_path, monkeypatch):
    def busy(path, missing_ok=False):
        raise OSError(16, "Device or resource busy")

    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, small_state(1), blocking=True)
        checkpoints.save(2, small_state(2))
        monkeypatch.setattr(type(checkpoints.directory), "rmtree", busy)
        with pytest.warns(CheckpointWarning, match="could not be deleted: Device or resource busy"):
            checkpoints.wait()
        assert (tmp_path / "1" / "state").exists()
        assert checkpoints.steps() == [2]
        assert checkpoints.latest_valid() == 2
        monkeypatch.undo()
        checkpoints.save(3, small_state(3), blocking=True)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="At least one"):
        Checkpoints(tmp_path, keep=0)


# ---------------------------------------------------------------------------------------------------------
# Faults


@pytest.mark.full
def test_a_process_that_ends_in_the_middle_of_a_save_leaves_the_one_before(tmp_path):
    script = f"""
        import os, sys
        import jax.numpy as jnp
        from gan_jax.runs.checkpoint import Checkpoints
        assert not [name for name in ("orbax", "tensorboardX", "tensorflow") if name in sys.modules]
        state = lambda k: {{"w": jnp.full((800, 800), k, jnp.float32)}}
        checkpoints = Checkpoints({str(tmp_path)!r})
        checkpoints.save(1, state(1), blocking=True)
        checkpoints.save(2, state(2))
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)
    assert (tmp_path / "2").exists() or (tmp_path / "1").exists()
    target = {"w": jnp.zeros((800, 800))}
    (tmp_path / "2").mkdir(exist_ok=True)  # begun, whether or not the process came that far
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(CheckpointWarning, match=r"Checkpoint 2 .*its save did not finish"):
            restored = checkpoints.restore(target)
        assert restored.step == 1
        assert (np.asarray(restored.state["w"]) == 1).all()
        checkpoints.save(3, restored.state, blocking=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1",
        "3",
    ]  # what the kill left is cleared away


def test_a_disk_that_fills_up_at_the_manifest(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, small_state(1), blocking=True)

        def full(path, data):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_atomically", full)
            checkpoints.save(2, small_state(2))
            with pytest.raises(
                CheckpointError,
                match=r"Cannot save checkpoint 2 in .*: the disk is full .*; the last one saved is 1\.",
            ):
                checkpoints.wait()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
        assert checkpoints.restore(small_state()).step == 1
        assert checkpoints.save(2, small_state(2), blocking=True)  # there is room again
        assert checkpoints.steps() == [2]


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system of its own, where the machine lets a test do that."""
    place = tmp_path / "mounted"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.full
@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_full_disk(mounted):
    big = {
        "w": jax.random.normal(jax.random.key(0), (300, 300)),
        "v": jax.random.normal(jax.random.key(1), (700, 700)),
    }
    with Checkpoints(mounted) as checkpoints:
        checkpoints.save(1, small_state(1), blocking=True)
        with pytest.raises(CheckpointError, match=r"Cannot save checkpoint 2 .*: the disk is full"):
            checkpoints.save(2, big, blocking=True)
        assert checkpoints.restore(small_state()).step == 1
        assert [path.name for path in mounted.iterdir()] == ["1"]


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount")
def test_a_read_only_directory(mounted):
    save_some(mounted, 1)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    checkpoints = Checkpoints(mounted)
    assert checkpoints.restore(small_state()).step == 1
    with pytest.raises(CheckpointError, match=r"Cannot save checkpoint 2 .*: the file system is read-only"):
        checkpoints.save(2, small_state(2), blocking=True)
    with pytest.raises(CheckpointError, match="read-only"):
        Checkpoints(mounted / "new").save(2, small_state(2), blocking=True)
    assert checkpoints.restore(small_state()).step == 1


@pytest.mark.full
def test_two_processes_save_and_restore_one_state(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"""
        import sys
        import jax
        import numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
        index = int(sys.argv[1])
        jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=index)
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        values = np.arange(1_200_000, dtype=np.float32).reshape(2, -1)
        def place(spec, rows):
            return jax.make_array_from_callback(rows.shape, NamedSharding(mesh, spec), lambda at: rows[at])
        state = {{"split": place(PartitionSpec("data"), values), "whole": place(PartitionSpec(), values[:, :5])}}
        checkpoints = Checkpoints({str(tmp_path)!r}, keep=2)
        for step in (1, 2, 3):
            checkpoints.save(step, state, payload=b"process %d" % index, metadata={{"step": step}})
        checkpoints.wait()
        restored = Checkpoints({str(tmp_path)!r}).restore(state)
        assert restored.step == 3 and restored.metadata == {{"step": 3}}
        assert restored.payload == b"process %d" % index, restored.payload
        for name, leaf in restored.state.items():
            assert leaf.sharding == state[name].sharding
            for shard in leaf.addressable_shards:
                want = (values if name == "split" else values[:, :5])[shard.index]
                np.testing.assert_array_equal(np.asarray(shard.data), want)
        try:
            checkpoints.restore(state, step=77)
        except CheckpointError as error:
            print("refused", error)
        checkpoints.close()
    """
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("refused" in output for output in outputs)
    # One process reads what two have saved; their own data positions it has no use for, and says so.
    target = {"split": jnp.zeros((2, 600_000)), "whole": jnp.zeros((2, 5))}
    with pytest.raises(CheckpointError, match="2 processes' data states, and 1 are reading"):
        Checkpoints(tmp_path).restore(target)
    assert Checkpoints(tmp_path).steps() == [2, 3]
