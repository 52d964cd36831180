"""What only a store in memory has to stand: very many objects in one process."""

import gc
from pathlib import Path

from tumpline.drivers.stores.memory import MemoryStore
from tumpline.machines.contract import StoredBundle
from tumpline.machines.storage import Add, Get, Remove
from tumpline.testing.conformance.stores import Shelf, stored_bundle

COUNT = 5000


async def test_the_collector_has_nothing_to_walk_through(tmp_path: Path) -> None:
    """A full collection stops everything; it must not take longer the more bundles are held."""
    shelf = Shelf(lambda _directory: MemoryStore(), tmp_path)
    shelf.open()
    gc.collect()
    before = len(gc.get_objects())
    await shelf.do(*(Add(stored_bundle(seq)) for seq in range(1, COUNT + 1)))
    gc.collect()
    assert len(gc.get_objects()) - before < COUNT / 50
    (bundle,) = await shelf.one(Get([COUNT]))
    assert isinstance(bundle, StoredBundle)
    assert bundle == stored_bundle(COUNT)
    assert all(await shelf.do(*(Remove(seq) for seq in range(1, COUNT + 1))))
    await shelf.store.close()
