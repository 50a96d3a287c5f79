import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.order import EpochOrder

SIZES = {
    "num_images": st.integers(1, 500),
    "batch_size": st.integers(1, 40),
    "num_ranks": st.integers(1, 8),
    "seed": st.integers(0, 2**32),
    "epoch": st.integers(0, 1000),
}


def orders(num_images: int, batch_size: int, seed: int, num_ranks: int) -> list[EpochOrder]:
    return [EpochOrder(num_images, batch_size, seed, True, rank, num_ranks) for rank in range(num_ranks)]


@given(**SIZES)
def test_each_image_comes_exactly_once_over_all_ranks(num_images, batch_size, num_ranks, seed, epoch):
    seen = [
        position
        for order in orders(num_images, batch_size, seed, num_ranks)
        for places in order.batches()
        for position in order.permutation(epoch)[places]
    ]
    assert sorted(seen) == list(range(num_images))


@given(**SIZES)
def test_ranks_have_equal_numbers_of_batches_and_batches_of_nearly_equal_size(
    num_images, batch_size, num_ranks, seed, epoch
):
    sizes = np.array(
        [
            [places.stop - places.start for places in order.batches()]
            for order in orders(num_images, batch_size, seed, num_ranks)
        ]
    )
    assert sizes.shape == (num_ranks, -(-num_images // (batch_size * num_ranks)))
    assert (sizes[:, :-1] == batch_size).all()
    assert sizes.max() <= batch_size
    assert np.ptp(sizes, axis=0).max() <= 1


@given(**SIZES)
def test_the_ranks_together_hold_the_global_batches_of_one_rank(num_images, batch_size, num_ranks, seed, epoch):
    alone = EpochOrder(num_images, batch_size * num_ranks, seed)
    ranks = orders(num_images, batch_size, seed, num_ranks)
    for batch in range(alone.num_batches):
        together = [order.permutation(epoch)[order.places(batch)] for order in ranks]
        assert np.array_equal(np.concatenate(together), alone.permutation(epoch)[alone.places(batch)])


def test_an_epoch_depends_on_its_seed_and_index_alone():
    order = EpochOrder(100, 10, seed=3)
    first = order.permutation(5), order.uniforms(5, 2)
    order.permutation(4)
    assert np.array_equal(order.permutation(5), first[0])
    assert np.array_equal(order.uniforms(5, 2), first[1])
    assert not np.array_equal(order.permutation(6), first[0])
    assert not np.array_equal(EpochOrder(100, 10, seed=4).permutation(5), first[0])


def test_the_order_is_the_same_in_every_release():
    assert EpochOrder(8, 4, seed=1).permutation(0).tolist() == [1, 7, 0, 4, 6, 3, 5, 2]


def test_places_and_positions_are_uncorrelated_and_so_are_two_epochs():
    order = EpochOrder(20_000, 64, seed=0)
    first, second = order.permutation(0), order.permutation(1)
    assert abs(np.corrcoef(first, np.arange(20_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_without_shuffling_the_order_is_the_tables():
    assert EpochOrder(5, 2, shuffle=False).permutation(7).tolist() == [0, 1, 2, 3, 4]
