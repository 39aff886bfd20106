"""What can be measured of an answer's text alone, whatever its task."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_REFUSALS = re.compile(
    r"\b(i(’|')?m sorry|i am sorry|i apologi[sz]e|i can(no|(’|'))?t|i am (not able|unable)|"
    r"i(’|')m (not able|unable)|as an ai)\b",
    re.IGNORECASE,
)
_REFUSES_WITHIN_CHARACTERS = 80
REPEATED_WORDS = 4
COPIED_WORDS = 8


def is_exact(answer: str, expected: str) -> bool:
    """Whether an answer equals the expected one, apart from surrounding white space."""
    return answer.strip() == expected.strip()


def token_f1(answer: str, expected: str) -> float:
    """Return the harmonic mean of precision and recall over words, from 0 to 1.

    Words are compared as SQuAD does: without case, punctuation and English articles
    (https://arxiv.org/abs/1606.05250, appendix). Two texts without words are equal.
    """
    given, wanted = _squad_words(answer), _squad_words(expected)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def is_refusal(answer: str) -> bool:
    """Whether an answer begins with one of the usual English refusals."""
    return _REFUSALS.search(answer[:_REFUSES_WITHIN_CHARACTERS]) is not None


def repeated_share(answer: str) -> float:
    """Return the share of an answer's four-word sequences that occurred in it before, 0 to 1."""
    sequences = _sequences(answer.split(), REPEATED_WORDS)
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def copied_share(answer: str, prompt: str) -> float:
    """Return the share of an answer's eight-word sequences that its prompt contains, 0 to 1."""
    sequences = _sequences(answer.split(), COPIED_WORDS)
    known = set(_sequences(prompt.split(), COPIED_WORDS))
    return sum(each in known for each in sequences) / len(sequences) if sequences else 0.0


def distinct_share(answers: Sequence[str], words: int) -> float | None:
    """Return distinct-n: different sequences of n words over all of them, in all answers together.

    https://arxiv.org/abs/1510.03055, section 5.2. None if no answer is that long.
    """
    sequences = [each for answer in answers for each in _sequences(answer.split(), words)]
    return len(set(sequences)) / len(sequences) if sequences else None


def _sequences(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
