"""Reports as files: a page that loads nothing, a small picture, tables in Parquet, the numbers.

Knows the numbers of `analysis`, and neither epochs nor the store. Its modules are imported one by
one, since charts load Altair.

- `report`: the report over one span; `training_report`: over a whole training.
- `page`: an HTML page, from `report_template.html`; `tables`: its sections.
- `charts`, `training_charts`: Vega-Lite specifications, drawn by `report_charts.js`.
- `step_panels`: optimizer steps as curves and bands.
- `picture`: the small PNG.
"""

REPORT_FILE = "report.html"
