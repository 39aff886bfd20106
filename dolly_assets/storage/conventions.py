"""Names that mean the same everywhere in the store.

Workers write them, Dagster's side shows and loads them.
"""

TABLE_FILE = "data.parquet"
VALUE_FILE = "value.json"
PICTURE_FILE = "picture.png"
LIVE = "live"  # folder of the store for what is overwritten while a training runs
MESSAGES = "messages"  # folder of the store for what workers in a cluster say, by Job
