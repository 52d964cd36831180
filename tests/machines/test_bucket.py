"""A token bucket in virtual time."""

from tumpline.machines.bucket import Bucket


def test_so_many_at_once_and_so_many_a_second() -> None:
    bucket = Bucket(3, 5, 2.0, 10.0)
    assert [bucket.take(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(11.0) for _ in range(3)] == [True, True, False]


def test_patience_adds_up_to_its_most() -> None:
    bucket = Bucket(0, 5, 1.0, 0.0)
    assert not bucket.take(0.5)
    assert [bucket.take(1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_full_again() -> None:
    bucket = Bucket(2, 2, 1.0, 0.0)
    assert bucket.is_full(0.0)
    bucket.take(0.0)
    assert not bucket.is_full(0.5)
    assert bucket.is_full(1.0)
