"""Memory for snapshots: used again while it fits, let go when it does not."""

import mmap

import pytest

from holdfast.engine.arena import Arena, ArenaPool, arena_nbytes
from holdfast.storage.draft import address_of

PAGE = 2 << 20


@pytest.mark.parametrize(
    ("asked", "given"), [(0, PAGE), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)]
)
def test_an_arena_has_whole_huge_pages_and_begins_at_a_page(asked, given):
    arena = Arena(asked)
    assert arena.nbytes == len(arena.view) == arena_nbytes(asked) == given
    assert address_of(arena.view) % mmap.PAGESIZE == 0
    assert not arena.view.readonly
    arena.touch()
    assert arena.view[-1] == 0


def test_what_was_given_back_is_used_again_with_what_was_prepared_in_it():
    pool = ArenaPool()
    arena = pool.borrow(100)
    arena.fitted = "prepared"
    pool.give_back(arena)
    assert pool.borrow(PAGE) is arena
    assert arena.fitted == "prepared"
    assert pool.borrow(100) is not arena


def test_a_state_that_grew_gets_more_and_the_small_arena_is_let_go():
    pool = ArenaPool(keep=2)
    small, other = pool.borrow(1), pool.borrow(1)
    small.fitted = other.fitted = "prepared"
    pool.give_back(small)
    pool.give_back(other)
    large = pool.borrow(PAGE + 1)
    assert large.nbytes == 2 * PAGE
    assert (small.fitted, other.fitted) == (None, None)
    pool.give_back(large)
    assert pool.borrow(PAGE + 1) is large


@pytest.mark.parametrize(
    ("held", "asked", "again"),
    [
        # pages held, bytes asked for: up to twice and a page is kept
        (3, PAGE, True),
        (4, PAGE, False),
        (4, PAGE * 3 // 2, True),
        (21, 10 * PAGE, True),
        (22, 10 * PAGE, False),
    ],
)
def test_a_state_that_shrank_far_gives_its_memory_back(held, asked, again):
    pool = ArenaPool()
    arena = pool.borrow(held * PAGE)
    pool.give_back(arena)
    assert (pool.borrow(asked) is arena) == again


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_no_more_arenas_stay_than_are_to_be_kept(keep):
    pool = ArenaPool(keep=keep)
    arenas = [pool.borrow(1) for _ in range(3)]
    for arena in arenas:
        arena.fitted = "prepared"
        pool.give_back(arena)
    assert [arena.fitted is not None for arena in arenas] == [n >= 3 - keep for n in range(3)]
    found = [pool.borrow(1) for _ in range(3)]
    assert sum(arena in arenas for arena in found) == keep


def test_warming_up_makes_one_arena_once():
    pool = ArenaPool()
    pool.warm_up(PAGE)
    first = pool.borrow(PAGE)
    pool.give_back(first)
    pool.warm_up(PAGE)
    assert pool.borrow(PAGE) is first
    pool.warm_up(5 * PAGE)
    assert pool.borrow(5 * PAGE).nbytes == 5 * PAGE


def test_clearing_gives_up_what_is_not_in_use():
    pool = ArenaPool()
    arena, busy = pool.borrow(1), pool.borrow(1)
    arena.fitted = busy.fitted = "prepared"
    pool.give_back(arena)
    pool.clear()
    assert (arena.fitted, busy.fitted) == (None, "prepared")
    assert pool.borrow(1) is not arena


def test_memory_is_pinned_once_and_unpinned_when_it_is_let_go():
    seen = []

    def pin(memory):
        seen.append(len(memory))
        return lambda: seen.append("unpinned")

    pool = ArenaPool(keep=1)
    arena = pool.borrow(1)
    arena.pin(pin)
    arena.pin(pin)
    assert seen == [PAGE]
    pool.give_back(arena)
    pool.clear()
    arena.discard()
    assert seen == [PAGE, "unpinned"]


def test_what_cannot_be_pinned_is_let_go_all_the_same():
    arena = Arena(1)
    arena.pin(lambda memory: None)
    arena.fitted = "prepared"
    arena.discard()
    assert arena.fitted is None
