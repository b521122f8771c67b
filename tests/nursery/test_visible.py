"""Which GPUs a worker sees: those that it was started on, of those that the nursery sees."""

from ingled.nursery.child import visible


def test_a_worker_sees_its_devices_alone() -> None:
    assert visible([0], None) == "0"
    assert visible([1, 3], None) == "1,3"
    assert visible([1], "4,6") == "6", "of those that the nursery may see"
    assert visible([0, 1], "GPU-a, GPU-b") == "GPU-a,GPU-b"
