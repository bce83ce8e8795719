"""What apt prints, read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import EnvironmentFailure, InputError, QmptestsError
from qmptests.packages import apt

MIRROR = "http://mirror/debian"


def test_a_file_to_download_is_read_with_its_epoch() -> None:
    line = f"'http://m/q_1.deb' qemu-system-x86_1%3a10.0+ds-1_amd64.deb 123 SHA256:{'0a' * 32}"
    assert apt.parse_uris(f"Reading package lists...\n{line}\n") == [
        apt.Download("http://m/q_1.deb", "qemu-system-x86", "1:10.0+ds-1", 123, "0a" * 32)
    ]


def test_a_file_without_a_strong_hash_is_not_taken() -> None:
    assert apt.parse_uris("'http://m/x.deb' x_1_all.deb 1 MD5Sum:00") == []


@given(st.text(max_size=100))
def test_no_output_makes_the_reader_fail(text: str) -> None:
    apt.parse_uris(text)
    assert "\n" not in str(apt.failure(text, "sid", MIRROR))


@pytest.mark.parametrize(
    ("output", "kind", "says"),
    [
        ("E: The repository 'x' does not have a Release file.", InputError, "no such suite"),
        ("E: Unable to locate package coffee", InputError, "no package coffee"),
        ("W: NO_PUBKEY 1\nE: 'x' is not signed.", EnvironmentFailure, "debian-archive-keyring"),
        ("E: Failed to fetch x  Hash Sum mismatch", EnvironmentFailure, "corrupted"),
        ("Temporary failure resolving 'm'", EnvironmentFailure, "can't be reached"),
        (
            "E: Error writing to file - write (28: No space left on device)",
            EnvironmentFailure,
            "full",
        ),
        ("E: Failed to fetch x  404  Not Found", apt.Superseded, "out of date"),
        ("E: Unmet dependencies", EnvironmentFailure, "Unmet dependencies"),
        ("", EnvironmentFailure, "no message"),
    ],
)
def test_each_complaint_comes_down_to_one_line(
    output: str, kind: type[QmptestsError], says: str
) -> None:
    error = apt.failure(output, "sid", MIRROR)
    assert type(error) is kind
    assert says in str(error)
