"""What a SPEC names."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.builds import locate, spec
from qmptests.errors import InputError


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_debian_and_a_suite() -> None:
    assert spec.parse("debian:trixie-backports") == spec.Suite("trixie-backports")
    assert str(spec.parse("debian:sid")) == "debian:sid"


def test_a_binary_by_its_path(tmp_path: Path) -> None:
    binary = executable(tmp_path / "bin" / "my-qemu")
    assert spec.parse(str(binary)) == spec.Binary(binary)


def test_a_binary_by_its_name_is_found_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = executable(tmp_path / "qemu-system-sparc")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert spec.parse("qemu-system-sparc") == spec.Binary(binary)


def test_nothing_stands_for_the_qemu_on_path_this_architectures_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"/proc/1/map_files:/nowhere:{tmp_path}")
    with pytest.raises(InputError, match=r"no qemu-system-\* on PATH"):
        spec.parse("")
    other = executable(tmp_path / "qemu-system-aaa")
    assert spec.parse("") == spec.Binary(other)
    native = executable(tmp_path / spec.native_binary_name())
    assert spec.parse("") == spec.Binary(native)


@pytest.mark.parametrize("given_as", ["", "build", "build/qemu-system-x86_64"])
def test_a_build_tree_by_its_source_its_build_directory_or_its_binary(
    tmp_path: Path, given_as: str
) -> None:
    binary = executable(tmp_path / "build" / "qemu-system-x86_64")
    (tmp_path / "build" / "config.status").touch()
    assert spec.parse(str(tmp_path / given_as)) == spec.BuildTree(tmp_path / "build", binary)


def test_a_build_of_several_targets_means_the_native_one(tmp_path: Path) -> None:
    native = executable(tmp_path / spec.native_binary_name())
    executable(tmp_path / "qemu-system-aaa")
    assert spec.parse(str(tmp_path)) == spec.BuildTree(tmp_path, native)


def test_a_build_of_several_foreign_targets_wants_one_named(tmp_path: Path) -> None:
    for name in ("qemu-system-aaa", "qemu-system-bbb"):
        executable(tmp_path / name)
    with pytest.raises(
        InputError, match=r"several QEMU binaries.*qemu-system-aaa, qemu-system-bbb"
    ):
        spec.parse(str(tmp_path))


def test_a_directory_without_a_binary_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no qemu-system-\*.*build QEMU there first"):
        spec.parse(str(tmp_path))


def test_what_is_nothing_says_what_it_could_be() -> None:
    with pytest.raises(InputError, match=r"'no-such-thing' is no registered build.*debian:SUITE"):
        spec.parse("no-such-thing")


@given(st.text(min_size=1, max_size=400).filter(lambda text: not text.startswith("debian:")))
def test_any_text_is_something_or_bad_input(text: str) -> None:
    with contextlib.suppress(InputError):
        spec.parse(text)


def test_a_name_longer_than_any_file_has_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"'aaa.*is no registered build"):
        spec.parse("a" * 5000)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            "exec '/src/qemu/configure' '--enable-kvm' \"$@\"\n",
            "'/src/qemu/configure' '--enable-kvm'",
        ),
        ("#!/bin/sh\n", ""),
    ],
)
def test_the_configure_line_is_in_config_status(tmp_path: Path, status: str, line: str) -> None:
    (tmp_path / "config.status").write_text(status)
    assert locate.configured(tmp_path) == (None, line)


def test_the_source_is_where_configure_or_meson_says(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "elsewhere"
    source.mkdir()
    folder.mkdir()
    (folder / "config.status").write_text("exec '../source/configure' \"$@\"\n")
    assert locate.configured(folder)[0] == source
    (folder / "config.status").unlink()
    (folder / "meson-info").mkdir()
    note = folder / "meson-info" / "meson-info.json"
    note.write_text(f'{{"directories": {{"source": "{source}"}}}}')
    assert locate.configured(folder)[0] == source
    note.write_text("{")
    assert locate.configured(folder)[0] is None
