"""What counts as a dataset in the inbox, and what is refused. The inbox is a real folder."""

import os
from pathlib import Path

import pytest

from dolly_assets.core.errors import DatasetError
from dolly_assets.datasets.catalogue import Catalogue
from dolly_assets.datasets.config import DatasetConfig
from dolly_assets.datasets.inbox import Inbox
from dolly_assets.datasets.sources import read_source
from dolly_assets.storage.object_store import ObjectStore

LINE = '{"instruction": "Name a colour.", "response": "Blue."}\n'


def put(folder: Path, name: str, text: str = LINE) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_and_a_folder_are_datasets(tmp_path: Path) -> None:
    put(tmp_path, "one.jsonl")
    put(tmp_path, "two/a.jsonl")
    put(tmp_path, "two/deep/b.csv", "instruction,response\nName a number.,One.\n")
    arrivals = Inbox(str(tmp_path)).arrivals()
    assert {name: arrival.problem for name, arrival in arrivals.items()} == {
        "one": None,
        "two": None,
    }
    assert read_source(arrivals["one"].source).table.num_rows == 1
    assert read_source(arrivals["two"].source).table["response"].to_pylist() == ["Blue.", "One."]


def test_a_card_says_what_a_dataset_is(tmp_path: Path) -> None:
    put(tmp_path, "one.jsonl")
    put(tmp_path, "one.yaml", "license: cc-by-4.0\nanswers: exact\n")
    put(tmp_path, "later.yaml", "license: mit\n")
    catalogue = Catalogue(ObjectStore(str(tmp_path / "store")), [], Inbox(str(tmp_path)))
    assert (catalogue.get("one").license, catalogue.get("one").answers) == ("cc-by-4.0", "exact")
    assert [dataset.name for dataset in catalogue.all()] == ["one"]


def test_a_wrong_card_names_file_and_key(tmp_path: Path) -> None:
    put(tmp_path, "one.jsonl")
    put(tmp_path, "one.yaml", "licence: mit\n")
    inbox = Inbox(str(tmp_path))
    with pytest.raises(
        DatasetError, match=r"one\.yaml: licence: .*known keys: license, answers, description"
    ):
        inbox.config(inbox.arrivals()["one"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two words.jsonl", "not allowed"),
        ("daten_für_uns.jsonl", "not allowed"),
        ("a..b.jsonl", "not allowed"),
        ("a;rm -rf $HOME.jsonl", "not allowed"),
        ("notes.docx", "not allowed|no readable file"),
        ("folder/readme.md", "no readable file"),
    ],
)
def test_what_cannot_be_taken_says_why(tmp_path: Path, name: str, reason: str) -> None:
    put(tmp_path, name)
    [arrival] = Inbox(str(tmp_path)).arrivals().values()
    assert arrival.problem
    with pytest.raises(DatasetError, match=reason):
        Inbox(str(tmp_path)).config(arrival)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "one.jsonl")
    put(tmp_path, "one.csv")
    put(tmp_path, "both.jsonl")
    put(tmp_path, "both/part.jsonl")
    problems = [arrival.problem or "" for arrival in Inbox(str(tmp_path)).arrivals().values()]
    assert all("several files claim the name" in problem for problem in problems)


def test_files_that_are_being_written_are_not_seen(tmp_path: Path) -> None:
    for name in (".one.jsonl.swp", "one.jsonl.part", "two.tmp", "folder/.hidden/three.jsonl"):
        put(tmp_path, name)
    assert not Inbox(str(tmp_path)).arrivals()


def test_a_fingerprint_follows_the_content_at_equal_size(tmp_path: Path) -> None:
    put(tmp_path, "one.jsonl")
    before = Inbox(str(tmp_path)).arrivals()["one"].fingerprint
    put(tmp_path, "one.jsonl", LINE.replace("Blue", "Teal"))
    assert Inbox(str(tmp_path)).arrivals()["one"].fingerprint != before


WRONG_CARDS = [
    "description: 2026-99-99",
    "description: 2026-01-01T00:00:00+99:99",
    "description: " + "9" * 5000,
    "[" * 20_000,
    "description: !!bool maybe",
    "description: \x01",
    "description: &again [*again]",
    "# too long\n" * 7000,
]
WRONG_NAMES = [b"a\nb.jsonl", b"a\x01.jsonl", b"a\x7f.jsonl", b"a\xff.jsonl", b"a\n/b.jsonl"]


@pytest.mark.parametrize("card", WRONG_CARDS, ids=lambda card: card[:30])
def test_a_card_that_is_no_card_is_refused_by_name_and_keeps_nothing_else_away(
    tmp_path: Path, card: str
) -> None:
    put(tmp_path, "evil.jsonl")
    put(tmp_path, "evil.yaml", card)
    put(tmp_path, "good.jsonl")
    put(tmp_path, "good.yaml", "")
    inbox = Inbox(str(tmp_path))
    catalogue = Catalogue(ObjectStore(str(tmp_path / "store")), [], inbox)
    assert [dataset.name for dataset in catalogue.all()] == ["good"]
    assert set(catalogue.found().rejected) == {"evil"}
    with pytest.raises(DatasetError, match=r"evil\.yaml: ") as refused:
        catalogue.get("evil")
    assert len(str(refused.value)) < 500


def test_of_a_card_of_gigabytes_little_is_read(tmp_path: Path) -> None:
    put(tmp_path, "evil.jsonl")
    with put(tmp_path, "evil.yaml").open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no room
    inbox = Inbox(str(tmp_path))
    with pytest.raises(DatasetError, match=r"evil\.yaml: more than 65,536 bytes"):
        inbox.config(inbox.arrivals()["evil"])


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_no_store_can_list_keeps_nothing_else_away(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, "good.jsonl")
    before = Inbox(str(tmp_path)).arrivals()["good"].fingerprint
    put(tmp_path, os.fsdecode(name))
    arrivals = Inbox(str(tmp_path)).arrivals()
    assert arrivals.pop("good").fingerprint == before
    [evil] = arrivals.values()
    assert evil.name.isprintable()
    assert "not allowed" in (evil.problem or "")


def test_an_odd_file_of_a_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path, "one/a.jsonl")
    put(tmp_path, "one/b\n.jsonl")
    [arrival] = Inbox(str(tmp_path)).arrivals().values()
    assert "one/b\\n.jsonl: not a name that every store can list" in (arrival.problem or "")


def test_a_key_that_obstore_cannot_read_keeps_nothing_else_away_on_s3(s3: str) -> None:
    import boto3

    bucket, client = s3.removeprefix("s3://").partition("/")[0], boto3.client("s3")
    inbox = Inbox(f"s3://{bucket}/inbox")
    client.put_object(Bucket=bucket, Key="inbox/good.jsonl", Body=LINE.encode())
    before = inbox.arrivals()["good"].fingerprint
    client.put_object(Bucket=bucket, Key="inbox/evil//b.jsonl", Body=LINE.encode())
    arrivals = inbox.arrivals()
    assert set(arrivals) == {"good", "evil"}
    assert arrivals["good"].fingerprint == before
    assert inbox.config(arrivals["good"]).name == "good"
    assert "evil//b.jsonl: not a name that every store can list" in (arrivals["evil"].problem or "")


def test_a_damaged_entry_of_the_catalogue_keeps_no_other_dataset_away(tmp_path: Path) -> None:
    objects = ObjectStore(str(tmp_path / "store"))
    catalogue = Catalogue(objects, [], Inbox(str(tmp_path / "inbox")))
    good = DatasetConfig(name="good", source="builtin:demo")
    catalogue.add(good)
    wrong = {"bytes": b"\xff", "deep": b"[" * 10**5, "later": good.model_dump_json()[:-1].encode()}
    for name, content in {**wrong, "secret": b'{"name":"secret","source":"s3://a:b@c/d"}'}.items():
        objects.write(f"catalogue/{name}.json", content)
        with pytest.raises(DatasetError, match=rf"catalogue/{name}\.json in the store"):
            catalogue.get(name)
    assert catalogue.all() == [good] == [catalogue.get("good")]
    assert catalogue.found().rejected.keys() == {*wrong, "secret"}
