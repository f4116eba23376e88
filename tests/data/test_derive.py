"""Splits, stacked digits, edges and masks against what can be counted or drawn by hand."""

import numpy as np
import pytest

from gan_jax.data import DataError, derive, load


def labelled_data(n=60, classes=3):
    return {"x": np.arange(n)[:, None], "y": np.arange(n) % classes}


def test_labelled_split_has_the_count_of_every_class_and_loses_nothing():
    data = labelled_data()
    labelled, unlabelled = derive.split_labelled(data, per_class=4, seed=1)
    np.testing.assert_array_equal(np.bincount(labelled["y"]), [4, 4, 4])
    np.testing.assert_array_equal(data["y"][labelled["x"][:, 0]], labelled["y"])
    assert sorted([*labelled["x"][:, 0], *unlabelled["x"][:, 0]]) == list(range(60))
    assert set(unlabelled) == {"x"}
    again, _ = derive.split_labelled(data, per_class=4, seed=1)
    other, _ = derive.split_labelled(data, per_class=4, seed=2)
    np.testing.assert_array_equal(labelled["x"], again["x"])
    assert not np.array_equal(labelled["x"], other["x"])


def test_held_back_examples_are_disjoint_and_of_the_count():
    rest, held = derive.split_off(labelled_data(), 10, seed=0)
    assert len(held["y"]) == 10
    assert sorted([*rest["x"][:, 0], *held["x"][:, 0]]) == list(range(60))


def test_stacked_digits_spell_their_label_and_reach_every_mode():
    digits = load("digits")
    stacked = derive.stack_digits(digits, count=20_000, seed=0)
    assert stacked["x"].shape == (20_000, 8, 8, 3)
    # 1,000 modes at about 1/1000 each: one stays empty with probability 1000 exp(-20), 2e-6.
    assert len(np.unique(stacked["y"])) == 1000
    by_image = {image.tobytes(): int(label) for image, label in zip(digits["x"], digits["y"], strict=True)}
    for image, label in zip(stacked["x"][:50], stacked["y"][:50], strict=True):
        spelled = [by_image[np.ascontiguousarray(image[..., k]).tobytes()] for k in range(3)]
        assert spelled == [int(c) for c in f"{label:03d}"]


@pytest.mark.parametrize("turns", range(4))
def test_edges_of_a_square_are_its_outline(turns):
    """A white square on black: the edge is one pixel wide, all around, and nowhere else."""
    x = np.zeros((1, 12, 12, 3), np.uint8)
    x[0, 3:9, 3:9] = 255
    drawn = np.rot90(derive.edges(np.rot90(x, turns, axes=(1, 2)))[0, ..., 0], -turns)
    # Away from the corners, the middle row and column cross the outline once on each side.
    assert set(np.unique(drawn)) == {0, 255}
    for line in (drawn[6], drawn[:, 6]):
        on = np.flatnonzero(line)
        assert len(on) == 2
        assert on[0] in (2, 3)
        assert on[1] in (8, 9)
    assert not drawn[5:7, 5:7].any()
    assert not drawn[:2].any()


def test_edges_ignore_what_is_flat_or_faint():
    flat = np.full((1, 8, 8, 1), 77, np.uint8)
    assert not derive.edges(flat).any()
    faint = flat.copy()
    faint[:, :, 4:] += 25  # a step of 25 of 255 is a tenth
    assert not derive.edges(faint, threshold=0.11).any()
    assert derive.edges(faint, threshold=0.09).any()


def test_one_image_does_not_touch_the_next():
    x = load("digits")["x"][:5]
    np.testing.assert_array_equal(derive.edges(x), np.concatenate([derive.edges(image[None]) for image in x]))
    np.testing.assert_array_equal(derive.masks(x), np.concatenate([derive.masks(image[None]) for image in x]))


def test_a_diagonal_edge_is_found():
    x = np.where(np.add.outer(np.arange(10), np.arange(10)) < 10, 0, 255).astype(np.uint8)[None, ..., None]
    drawn = derive.edges(x)[0, ..., 0]
    on = np.argwhere(drawn)
    assert len(on) >= 8
    assert set(on.sum(1)) <= {9, 10}


@pytest.mark.parametrize("inverted", [False, True])
def test_masks_are_the_object_whatever_its_sign(inverted):
    draw = np.random.default_rng(0)
    thing = np.zeros((12, 12), bool)
    thing[4:9, 3:8] = True
    grey = np.where(thing, 200, 40) + draw.integers(-20, 20, (12, 12))
    x = (255 - grey if inverted else grey).astype(np.uint8)[None, ..., None]
    np.testing.assert_array_equal(derive.masks(x)[0, ..., 0] == 255, thing)


def test_otsu_agrees_with_trying_every_threshold():
    grey = np.random.default_rng(1).integers(0, 256, (3, 6, 6)).astype(np.uint8)
    for image, chosen in zip(grey, derive.otsu(grey), strict=True):

        def between(t, image=image):
            low, high = image[image <= t], image[image > t]
            if not low.size or not high.size:
                return 0.0
            return low.size * high.size * (low.mean() - high.mean()) ** 2

        assert between(chosen) == pytest.approx(max(between(t) for t in range(256)))


def test_derived_pairs_keep_image_and_condition_together():
    digits = load("edges:digits")
    assert set(digits) == {"x", "y", "condition"}
    np.testing.assert_array_equal(digits["condition"], derive.edges(digits["x"]))
    assert load("masks:digits")["condition"].shape == (1797, 8, 8, 1)
    assert load("stacked:digits")["x"].shape == (25_600, 8, 8, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: derive.split_labelled(labelled_data(), 21), "class 0 has 20: take 1 to 20"),
        (lambda: derive.split_labelled({"x": np.zeros((3, 1))}, 1), "no 'y'"),
        (lambda: derive.split_off(labelled_data(), 60), "take 1 to 59"),
        (lambda: derive.stack_digits(labelled_data()), "labels 0 to 9"),
        (lambda: derive.edges(np.zeros((1, 4, 4, 1), np.uint8), 0.0), "between 0 and 1"),
        (lambda: derive.masks(np.zeros((1, 4, 4, 1))), "uint8, got float64"),
    ],
)
def test_mistakes_say_what_was_expected(make, said):
    with pytest.raises(DataError, match=said):
        make()
