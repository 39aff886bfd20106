// Sorts tables by a column, finds rows by their text, and shows or hides what is marked.
const valueOf = (row, column) => row.cells[column].dataset.value ?? "";

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");  // what was not measured comes last
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? a.localeCompare(b) : difference;
}

function sort(table, header) {
  const down = header.getAttribute("aria-sort") === "ascending", column = header.cellIndex;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [valueOf(a, column), valueOf(b, column)];
    return x === "" || y === "" ? compare(x, y) : (down ? -1 : 1) * compare(x, y);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable"))
  for (const header of table.tHead.rows[0].cells)
    header.firstElementChild.addEventListener("click", () => sort(table, header));

const answers = document.getElementById("answers"), count = document.getElementById("count");

document.getElementById("search").addEventListener("input", event => {
  const wanted = event.target.value.trim().toLowerCase();
  let shown = 0;
  for (const row of answers.tBodies[0].rows) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${answers.tBodies[0].rows.length} prompts`;
});

document.getElementById("mark").addEventListener("change", event =>
  answers.classList.toggle("marked", event.target.checked));
