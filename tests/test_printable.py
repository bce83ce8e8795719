"""Text of outside is shown, and steers nothing."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmptests import pasting, printable

ODD = "\x1b]52;c;x\x07\x9b2J\x7f\r\x00\u200f\u202e\u2066\u2028\udc9b\U000e0041\ufeff"


def test_what_steers_is_shown_as_python_writes_it() -> None:
    shown = printable.lines(f"a\tb\n{ODD}é漢")
    assert shown == (
        r"a	b"
        "\n"
        r"\x1b]52;c;x\x07\x9b2J\x7f\r\x00\u200f\u202e\u2066\u2028\udc9b\U000e0041\ufeff"
        "é漢"
    )
    assert printable.one_line("a\tb\n") == r"a\tb\n"
    assert printable.unwrapped(" a\tb\n\n\x1bc ") == r"a b \x1bc"


@given(st.text(st.characters() | st.sampled_from(ODD)))
def test_no_text_has_anything_left_that_steers(text: str) -> None:
    assert printable.one_line(text).isprintable()
    assert printable.one_line(printable.one_line(text)) == printable.one_line(text)
    assert all(c.isprintable() or c in "\n\t" for c in printable.lines(text))
    printable.lines(text).encode()


@pytest.mark.parametrize("shell", ["bash"])
@settings(deadline=None, max_examples=15)
@given(
    words=st.lists(
        st.text(st.characters(exclude_characters="\0") | st.sampled_from("'\\$`!\n\x1b\udcff"))
    )
)
def test_a_shell_reads_back_what_is_to_be_pasted(shell: str, words: list[str]) -> None:
    words = [w.encode(errors="replace").decode() for w in words] + ["\udcff1"]
    line = pasting.command(words)
    assert line.isprintable()
    shown = subprocess.run(
        [shell, "-c", f"printf '%s\\0' {line}"], stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    assert [w.decode(errors="surrogateescape") for w in shown.split(b"\0")[:-1]] == words


def test_a_path_is_no_option() -> None:
    assert pasting.path("-e x/reproduce.sh") == "'./-e x/reproduce.sh'"
    assert pasting.path("/a/b") == "/a/b"
