"""`dolly status`: every dataset of the catalogue, and which training an epoch is of."""

from dolly_assets_tests.home import Home
from dolly_assets_tests.in_process import dolly


def test_every_dataset_of_the_catalogue_is_listed(trained: Home) -> None:
    table = dolly(trained.variables, "status").stdout
    assert "tiny             not trained yet on alpaca, databricks_dolly_15k, demo" in table
    assert (
        "demo             not trained yet on alpaca, animals, databricks_dolly_15k, demo" in table
    )


def test_every_published_epoch_names_its_training(trained: Home) -> None:
    rows = trained.status()
    trainings = {epoch: row["training"] for epoch, row in rows.items() if row["digest"]}
    assert sorted(trainings) == [0, 1, 2]
    assert len(set(trainings.values())) == 1
    assert rows[3]["training"] is None
