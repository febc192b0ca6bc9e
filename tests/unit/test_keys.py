"""
Keys: what may name an instance, and which partition it falls into.
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.errors import KeyRefused
from holdfast.runtime.keys import KEY_BYTES_MAX, Ref, check_key, partition_of
from tests import controls

#: (type, key) -> its partition of 16. Logs and queues are found by it: it can never change.
GOLDEN = {
    ("order", "o-1"): 6,
    ("order", "o-2"): 12,
    ("counter", "o-1"): 5,
    ("order", "日本語"): 5,
    ("order", "Zoë"): 2,
    ("a", "b/c"): 9,
}


@pytest.mark.parametrize("key", controls.KEYS)
def test_keys_that_people_have_are_accepted(key: str) -> None:
    """
    Any text of 1 to 512 bytes names an instance.
    """
    assert key == check_key(key, "an order")


@pytest.mark.parametrize(("key", "text"), [(7, "7"), (0, "0"), (-1, "-1"), (10**30, "1" + "0" * 30)])
def test_whole_numbers_are_keys(key: int, text: str) -> None:
    """
    A number is the key that it is written as.
    """
    assert text == check_key(key, "an order")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "the key of an order is empty; give the business identifier of the instance"),
        (None, "the key of an order must be text, not NoneType"),
        (True, "the key of an order must be text, not bool"),
        (1.5, "the key of an order must be text, not float"),
        (b"o-1", "the key of an order must be text, not bytes"),
        (["o-1"], "the key of an order must be text, not list"),
        ("x" * 513, "the key of an order is 513 bytes long; the limit is 512"),
        ("é" * 257, "the key of an order is 514 bytes long; the limit is 512"),
        ("o\ud800", "the key of an order cannot be written as UTF-8: surrogates not allowed at character 1"),
    ],
)
def test_what_cannot_be_a_key_is_refused(key: object, words: str) -> None:
    """
    The error says whose key it is and what is wrong with it.
    """
    with pytest.raises(KeyRefused) as caught:
        check_key(key, "an order")

    assert words in str(caught.value)


@given(st.text())
def test_a_key_is_accepted_or_refused(key: str) -> None:
    """
    No text raises anything else, and the limit is in bytes.
    """
    try:
        accepted = check_key(key, "an order") == key
    except KeyRefused:
        accepted = False

    assert accepted == (0 < len(key.encode()) <= KEY_BYTES_MAX)


@pytest.mark.parametrize(("workflow", "key"), GOLDEN)
def test_partitions_stay_where_they_are(workflow: str, key: str) -> None:
    """
    Every version and every process finds an instance in the same partition.
    """
    assert GOLDEN[workflow, key] == partition_of(workflow, key, 16)


@given(st.text(max_size=20), st.integers(1, 1_024))
def test_a_partition_is_one_of_them(key: str, partitions: int) -> None:
    """
    Whatever the key and however many partitions.
    """
    assert partition_of("order", key, partitions) in range(partitions)


def test_partitions_get_even_shares() -> None:
    """
    Running numbers spread evenly: no partition has a tenth more or less than another.
    """
    shares = Counter(partition_of("order", f"order-{number}", 16) for number in range(160_000))

    assert 16 == len(shares)
    assert all(9_000 < share < 11_000 for share in shares.values())


def test_a_reference_reads_as_type_and_key() -> None:
    """
    As it stands in errors and logs.
    """
    assert "order/o-1" == str(Ref(3, "order", "o-1"))


@given(st.lists(st.text(st.sampled_from("a1/:"), min_size=1, max_size=6), min_size=4, max_size=4))
def test_scopes_never_run_into_each_other(parts: list[str]) -> None:
    """
    A name within one instance is never a name within another, whatever the keys and names are.
    """
    one, other = Ref(0, "order", parts[0]), Ref(0, "order", parts[1])
    names = (f"{one.scope}/{parts[2]}", f"{other.scope}/{parts[3]}")

    assert (names[0] == names[1]) == ((parts[0], parts[2]) == (parts[1], parts[3]))
