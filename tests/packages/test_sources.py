"""Which of a machine's apt sources is the Debian archive."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.errors import EnvironmentFailure
from qmptests.packages import sources
from qmptests.packages.sources import Archive, Entry

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def one(line: str) -> list[Entry]:
    return list(sources.parse_one_line(line))


def test_a_one_line_entry_is_read_with_its_options() -> None:
    options = f"arch=amd64,i386 signed-by={KEYRING}"
    line = f"deb [ {options} ] http://mirror.example.org/debian sid main non-free # us"
    assert one(line) == [
        Entry(
            ("http://mirror.example.org/debian",),
            ("sid",),
            ("main", "non-free"),
            {"arch": "amd64 i386", "signed-by": KEYRING},
        )
    ]


@pytest.mark.parametrize("line", ["# deb http://x/debian sid main", "deb-src http://x s main", ""])
def test_comments_and_sources_of_sources_are_no_entries(line: str) -> None:
    assert one(line) == []


def test_a_stanza_is_read_whatever_the_case_of_its_fields() -> None:
    text = (
        "# comment\nTYPES: deb deb-src\nURIs: http://a/debian http://b/debian\n"
        "Suites: trixie\n# another\n trixie-updates\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n"
    )
    (entry,) = sources.parse_deb822(text)
    assert entry.uris == ("http://a/debian", "http://b/debian")
    assert entry.suites == ("trixie", "trixie-updates")
    assert entry.options["signed-by"].splitlines()[1] == " -----BEGIN PGP PUBLIC KEY BLOCK-----"


@pytest.mark.parametrize("field", ["Enabled: no", "Types: deb-src", "Suites:"])
def test_stanzas_that_give_no_packages_are_passed_over(field: str) -> None:
    text = f"Types: deb\nURIs: http://a/debian\nSuites: sid\nComponents: main\n{field}\n"
    assert list(sources.parse_deb822(text)) == []


DEBIAN = [
    "deb http://mirror.example.org/debian bookworm main",
    f"deb [signed-by={KEYRING}] http://mirror.example.org/pub/linux/debian/ bookworm main",
    f"deb [signed-by={KEYRING}] mirror+file:/etc/apt/mirrors/debian.list bookworm main",
    "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main",
    "deb http://mirror.example.org/debian trixie main contrib",
    "deb https://any-host.debian.org/archive/debian/20250520T000000Z bookworm main",
    "deb https://artifacts.example.com/artifactory/debian-remote bookworm main",
]

FOREIGN = [
    "deb http://archive.ubuntu.com/ubuntu noble main universe",
    "deb [signed-by=/k/docker.asc] https://download.docker.com/linux/debian bookworm stable",
    "deb [signed-by=/k/winehq.key] https://dl.winehq.org/wine-builds/debian/ bookworm main",
    "deb [signed-by=/k/nodesource.gpg] https://node.example.com/node_20.x nodistro main",
    "deb [signed-by=/k/m.gpg] https://repo.mongodb.org/apt/debian bookworm/mongodb-org/7.0 main",
    "deb https://packages.microsoft.com/debian/12/prod bookworm main",
    "deb http://apt.postgresql.org/pub/repos/apt bookworm-pgdg main",
    "deb http://mirror.example.org/debian-security bookworm-security main",
    "deb cdrom:[Debian GNU/Linux 12]/ bookworm main",
    "deb http://example.org/debian ./",
]


@pytest.mark.parametrize("line", DEBIAN)
def test_a_debian_mirror_is_recognised_among_foreign_repositories(line: str) -> None:
    (wanted,) = one(line)
    archive = sources.find_archive([*one("\n".join(FOREIGN)), wanted])
    assert archive is not None
    assert archive.uris == wanted.uris


@pytest.mark.parametrize("line", FOREIGN)
def test_a_foreign_repository_is_never_taken_for_debian(line: str) -> None:
    assert sources.find_archive(one(line)) is None


def test_the_entry_with_debians_key_goes_before_one_that_only_looks_like_it() -> None:
    archive = sources.find_archive(one(f"{DEBIAN[4]}\n{DEBIAN[1]}"))
    assert archive is not None
    assert archive.uris == ("http://mirror.example.org/pub/linux/debian/",)


def test_a_machine_without_debian_says_so(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(FOREIGN[0] + "\n")
    with pytest.raises(EnvironmentFailure, match=r"no Debian archive among .*build tree"):
        sources.require_archive(tmp_path / "sources.list", tmp_path / "absent")


def test_files_of_both_formats_are_read_and_others_left(tmp_path: Path) -> None:
    (tmp_path / "a.list").write_text(DEBIAN[0])
    (tmp_path / "b.sources").write_text(
        "Types: deb\nURIs: http://b/debian\nSuites: s\nComponents: main\n"
    )
    (tmp_path / "c.list.disabled").write_text(DEBIAN[4])
    entries = sources.read_entries(tmp_path / "none", tmp_path)
    assert [entry.uris[0] for entry in entries] == [
        "http://mirror.example.org/debian",
        "http://b/debian",
    ]


@pytest.mark.parametrize(
    ("suite", "base"),
    [("trixie", "trixie"), ("trixie-backports", "trixie"), ("experimental", "sid")],
)
def test_a_suite_knows_what_it_is_built_on(suite: str, base: str) -> None:
    assert sources.base_suite(suite) == base


def test_security_updates_come_from_their_own_mirror() -> None:
    archive = sources.find_archive(one(f"{DEBIAN[0]}\n{FOREIGN[7]}"))
    assert archive is not None
    text = sources.write_sources(archive, "trixie-security", "amd64")
    base, security = sources.parse_deb822(text)
    assert (base.uris, base.suites) == (("http://mirror.example.org/debian",), ("trixie",))
    assert security.uris == ("http://mirror.example.org/debian-security",)
    assert security.suites == ("trixie-security",)


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-+~", min_size=1, max_size=12).filter(
    lambda word: not word.startswith("-")
)


@given(uris=st.lists(words, min_size=1, max_size=3), suite=words, key=words)
def test_what_is_written_reads_back(uris: list[str], suite: str, key: str) -> None:
    addresses = tuple(f"http://{uri}/debian" for uri in uris)
    archive = Archive(addresses, {"signed-by": key}, None)
    entries = list(sources.parse_deb822(sources.write_sources(archive, suite, "amd64")))
    assert {entry.uris for entry in entries} == {addresses}
    assert entries[-1].suites == (suite,)
    assert entries[0].suites == (sources.base_suite(suite),)
    assert {entry.options["signed-by"] for entry in entries} == {key}


pieces = ["deb", " ", "\n", "[", "]", ": ", "=", "#", "URIs", "Types", "Suites", "main", "x/", "\t"]
apt_text = st.text(max_size=80) | st.lists(st.sampled_from(pieces), max_size=40).map("".join)


@given(apt_text)
def test_no_text_makes_the_parsers_fail(text: str) -> None:
    entries = [*sources.parse_one_line(text), *sources.parse_deb822(text)]
    assert all(entry.uris and entry.suites for entry in entries)
    sources.find_archive(entries)
