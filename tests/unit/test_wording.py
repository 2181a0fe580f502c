"""Words joined for a reader: lists in a sentence, and folded paragraphs."""

from __future__ import annotations

import pytest

from connbench.wording import end_of, fold, listed


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_words_are_listed_as_in_a_sentence(words: list[str], text: str) -> None:
    """Commas, and an `and` before the last."""
    assert listed(words) == text


def test_a_command_stays_on_one_line() -> None:
    """If it fits: a longer one is folded as other words are."""
    text = 'widen it: `sysctl -w range="1024 65535"` now'
    assert fold(text, 36).splitlines() == ["widen it:", '  `sysctl -w range="1024 65535"` now']
    assert fold(text, 20).splitlines() == ["widen it: `sysctl -w", '  range="1024', '  65535"` now']


def test_a_paragraph_is_folded_between_words() -> None:
    """No line breaks within a word, nor at a hyphen; without a width there is one line."""
    text = "connect from 127.9.9.1-127.9.9.9 to there"
    assert fold(text, 20, "  ", "- ").splitlines() == ["- connect from", "  127.9.9.1-127.9.9.9", "  to there"]
    assert fold(text, None, "  ", "- ") == f"- {text}"


@pytest.mark.parametrize(("width", "text"), [(9, "/a/b/c.de"), (8, "…/b/c.de"), (2, "…e"), (1, "…")])
def test_of_a_long_path_the_end_is_kept(width: int, text: str) -> None:
    """It is never wider than asked for."""
    assert end_of("/a/b/c.de", width) == text
