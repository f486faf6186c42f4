import numpy as np
import pytest

from veriquant.code_digest import import_digest
from veriquant.errors import VeriQuantError
from veriquant.locks import locked
from veriquant.study.store import Store

KEY = {"network": "abc", "settings": {"a": 1}}


def test_what_is_put_is_got(tmp_path):
    store = Store(tmp_path)
    assert store.get("embeddings", KEY, "npy") is None
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    put = store.put_array("embeddings", KEY, array, {"seconds": 1.5})
    got = store.get("embeddings", KEY, "npy")
    assert got is not None
    np.testing.assert_array_equal(got.array(), array)
    assert got.facts == {"seconds": 1.5}
    assert got.digest == put.digest
    assert store.get("embeddings", {**KEY, "network": "abd"}, "npy") is None


@pytest.mark.parametrize("victim", ["npy", "json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone"])
def test_a_damaged_entry_counts_as_none_and_is_noted(tmp_path, victim, harm):
    store = Store(tmp_path)
    store.put_array("embeddings", KEY, np.arange(100, dtype=np.float32), {"seconds": 1.5})
    path = store.path("embeddings", KEY, "npy").with_suffix(f".{victim}")
    content = path.read_bytes()
    middle = len(content) // 2
    if harm == "gone":
        path.unlink()
    else:
        changed = bytes([content[middle] ^ 1])
        path.write_bytes(
            {"cut": content[:middle], "flip": content[:middle] + changed + content[middle + 1 :], "empty": b""}[harm]
        )
    found = store.get("embeddings", KEY, "npy")
    if victim == "json" and harm == "flip" and found is not None:
        # a bit of the key's record, which is only there for a reader
        np.testing.assert_array_equal(found.array(), np.arange(100, dtype=np.float32))
        return
    assert found is None
    if not (victim == "json" and harm == "gone"):
        assert "damaged" in store.notes[0]


def test_a_pickle_in_the_store_is_not_executed(tmp_path):
    import hashlib
    import json
    import pickle

    store = Store(tmp_path)
    store.put_array("embeddings", KEY, np.zeros(3, dtype=np.float32), {})

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = store.path("embeddings", KEY, "npy")
    path.write_bytes(pickle.dumps(Hostile()))
    facts = path.with_suffix(".json")
    record = json.loads(facts.read_text())
    record["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    facts.write_text(json.dumps(record))
    found = store.get("embeddings", KEY, "npy")
    assert found is not None
    with pytest.raises(ValueError, match="no array"):
        found.array()
    assert not (tmp_path / "executed").exists()


def test_two_studies_on_one_folder_are_refused_and_leftovers_cleared(tmp_path):
    left = tmp_path / "store" / "blocks" / ".half.npy.x1y2z3_4.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with locked(tmp_path):
        assert not left.exists()
        with pytest.raises(VeriQuantError, match="another study is at work"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_the_hash_of_code_tells_rooms_apart():
    assert import_digest("veriquant.metrics") == import_digest("veriquant.metrics")
    assert import_digest("veriquant.metrics") != import_digest("veriquant.frontends")
