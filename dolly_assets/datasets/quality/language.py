"""Which language a response is in, by its script and its most frequent words.

This is a cheap guess, for finding strays. It distinguishes the scripts of Unicode and, in Latin
script, the languages below, by short words that are frequent in one and not in the others. Code,
numbers, and texts with fewer than `LEAST_WORDS` such words have no language. It does not
distinguish Ukrainian from Russian, or Danish from Norwegian.
"""

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dolly_assets.datasets.quality.arrow import kernels
from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records, words_of

LEAST_WORDS = 3
CLEARLY_MORE = 1.5  # times the words of the runner-up
SCRIPTS = {
    "Russian or another in Cyrillic": r"\p{Cyrillic}",
    "Greek": r"\p{Greek}",
    "Arabic or another in its script": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Hindi or another in Devanagari": r"\p{Devanagari}",
    "Thai": r"\p{Thai}",
    "Korean": r"\p{Hangul}",
    "Japanese": r"[\p{Hiragana}\p{Katakana}]",
    "Chinese": r"\p{Han}",
}
NOT_LATIN = r"[^\p{Latin}\p{Common}\p{Inherited}]"
FREQUENT_WORDS = {
    "English": "the of and to is that it was for with as his he be this have from by not but what "
    "which you are their i a in do on me so man no we can at or an has were had will "
    "would been there if more when who its also sin pro",
    "French": "les des est et dans pour qui pas sur au avec ce sont du vous nous cette être aux "
    "leur ses mais elle ils comme où plus fait peut très était",
    "German": "der die und ist nicht ein eine zu mit sich auf für dem von werden auch wird bei "
    "einen oder sie des im sind als einer durch nach wie kann aber über",
    "Spanish": "el los las del por una más pero su este y muy está son ser al también lo esta "
    "puede sus entre sobre hay desde cuando todo fue",
    "Italian": "il che è per della nel non gli più dei alla anche questo si delle ma essere sono "
    "degli dal nella può loro quando tra",
    "Portuguese": "os não uma é em mais dos ao mas foi são também você na pelo à ou até pode pela "
    "seu sua isso muito quando entre",
    "Dutch": "het een van dat op te zijn voor met niet aan er ook bij worden deze wordt naar maar "
    "of om kan door hebben heeft wat uit",
    "Polish": "nie się jest że przez jak dla od są może oraz który być tego w z ale tym jako po "
    "już które",
    "Swedish": "och att det som är av för på till inte har ett om från kan vi så jag var med den "
    "eller också när",
    "Turkish": "ve bir bu için ile çok olarak gibi daha olan kadar sonra her ama değil mı veya "
    "olduğu",
    "Indonesian": "yang dan itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena "
    "adalah oleh atau anda",
    "Vietnamese": "và của là có không được trong cho một những các với người này để đã khi từ như "
    "cũng",
}
_ASKED_FOR = (
    r"\b(translat|language|spanish|french|german|italian|portuguese|dutch|polish|swedish|turkish|indonesian|vietnamese|"
    r"russian|greek|latin|arabic|hebrew|hindi|thai|korean|japanese|chinese|mandarin|english)"
)


def language(records: Records) -> QualityFinding:
    """Find responses in another language than most, unless the prompt mentions a language."""
    languages = [name for batch in records.batches() for name in languages_of(batch.answers)]
    counted = Counter(name for name in languages if name)
    if not counted:
        return finding("language", len(records), ())
    main = counted.most_common(1)[0][0]
    strays = np.array([bool(name) and name != main for name in languages])
    return finding(
        "language",
        len(records),
        (hit for batch in records.batches() for hit in _unasked(batch, languages, strays)),
    )


def languages_of(texts: pa.Array) -> list[str]:
    """Return the language of each text; empty where it is unknown."""
    found = _by_frequent_words(texts)
    is_other = kernels.match_substring_regex(texts, NOT_LATIN).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(is_other)
    for place, script in zip(
        places.tolist(), _by_script(texts.take(pa.array(places))), strict=True
    ):
        found[place] = script or found[place]
    return found


def _by_script(texts: pa.Array) -> list[str]:
    """Return the script of more than half of each text's letters; empty if there is none."""
    letters = kernels.count_substring_regex(texts, r"\p{L}").to_numpy()
    counts = np.stack(
        [kernels.count_substring_regex(texts, pattern).to_numpy() for pattern in SCRIPTS.values()]
    )
    names = list(SCRIPTS)
    counts[names.index("Japanese")] += counts[names.index("Chinese")] * (
        counts[names.index("Japanese")] > 0
    )
    best = counts.argmax(axis=0)
    is_most = counts.max(axis=0) > letters / 2
    return [names[place] if most else "" for place, most in zip(best, is_most, strict=True)]


def _by_frequent_words(texts: pa.Array) -> list[str]:
    words = words_of(texts)
    names = list(FREQUENT_WORDS)
    place_of = {
        word: names.index(name) for name, known in _distinctive_words().items() for word in known
    }
    known = np.array([place_of.get(word, -1) for word in words.dictionary], dtype=np.int64)[
        words.codes
    ]
    text = np.repeat(np.arange(len(texts)), np.diff(words.starts))[known >= 0]
    counts = np.bincount(text * len(names) + known[known >= 0], minlength=len(texts) * len(names))
    counts = counts.reshape(len(texts), len(names))
    ranked = np.sort(counts, axis=1)
    is_clear = (ranked[:, -1] >= LEAST_WORDS) & (ranked[:, -1] >= CLEARLY_MORE * ranked[:, -2])
    return [
        names[best] if clear else ""
        for best, clear in zip(counts.argmax(axis=1), is_clear, strict=True)
    ]


def _distinctive_words() -> dict[str, list[str]]:
    """Return the frequent words without those that languages share; English keeps all its own."""
    english = FREQUENT_WORDS["English"].split()
    shared = Counter(word for text in FREQUENT_WORDS.values() for word in set(text.split()))
    return {
        name: english if name == "English" else [word for word in text.split() if shared[word] == 1]
        for name, text in FREQUENT_WORDS.items()
    }


def _unasked(batch: Batch, languages: list[str], strays: np.ndarray) -> Iterator[FlaggedRecord]:
    for place in np.flatnonzero(strays[batch.first : batch.first + len(batch)]).tolist():
        if not re.search(_ASKED_FOR, batch.prompt[place].as_py(), re.IGNORECASE):
            record = batch.first + place
            yield FlaggedRecord(
                record=record,
                kind=languages[record],
                excerpt=excerpt(batch.answers[place].as_py()),
            )
