"""File and folder names that are the same for all artifacts.

Workers write them; the Dagster side shows and loads them.
"""

TABLE_FILE = "data.parquet"
VALUE_FILE = "value.json"
PICTURE_FILE = "picture.png"
LIVE = "live"  # folder of the store for live reports, which are overwritten while a training runs
MESSAGES = "messages"  # folder of the store for the messages of workers in a cluster, by Job
