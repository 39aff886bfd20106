"""Names of files that mean the same in every artifact. Workers write them, Dagster's side shows and loads them."""

TABLE_FILE = "data.parquet"
VALUE_FILE = "value.json"
PICTURE_FILE = "picture.png"
