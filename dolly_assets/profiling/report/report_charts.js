// Columns become the rows that Vega-Lite wants; a gap in time breaks a curve.
function rowsOf(columns) {
  const t = columns.t, rows = [];
  const steps = t.slice(1).map((time, i) => time - t[i]).sort((a, b) => a - b);
  const step = steps.length ? steps[steps.length >> 1] : 1000;
  columns.labels.forEach((label, c) => t.forEach((time, i) => {
    const following = i + 1 < t.length ? t[i + 1] : time + step, gap = following - time > 5 * step;
    const next = gap ? time + step : following;
    rows.push({label, t: time, next, low: columns.low[c][i], mean: columns.mean[c][i], high: columns.high[c][i]});
    if (gap) rows.push({label, t: next, next, low: null, mean: null, high: null});
  }));
  return rows;
}
function draw() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches, ink = dark ? "#c9ced8" : "#3a4252";
  const datasets = {...CHARTS.rows};
  for (const name in CHARTS.curves) datasets[name] = rowsOf(CHARTS.curves[name]);
  const colours = {labelColor: ink, tickColor: ink, gridColor: ink};
  const config = {axis: colours, title: {color: ink}, legend: {labelColor: ink}};
  const options = {renderer: "canvas", actions: false, tooltip: {theme: dark ? "dark" : "light"}, config};
  vegaEmbed("#charts", {...CHARTS.specification, datasets}, options);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
