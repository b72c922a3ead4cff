// Draws the tables of a page as charts: the table is what is true, and the chart is another look at it.
import { BarController, BarElement, CategoryScale, Chart, Legend, LinearScale, LineController, LineElement, PointElement, Tooltip } from "chart.js";

import { size } from "./numbers.js";
import { written } from "./words.js";

Chart.register(BarController, BarElement, CategoryScale, Legend, LinearScale, LineController, LineElement, PointElement, Tooltip);

function read(details) {
  const [head, ...rows] = [...details.querySelectorAll("tr")];
  return {
    kind: details.dataset.chart,
    unit: details.dataset.unit,
    names: [...head.cells].slice(1).map((cell) => cell.textContent.trim()),
    labels: rows.map((row) => row.cells[0].textContent.trim()),
    values: rows.map((row) => [...row.cells].slice(1).map((cell) => Number(cell.dataset.value))),
  };
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { series: [of("--chart-1"), of("--chart-2")], text: of("--app-secondary"), grid: of("--tblr-border-color") };
}

// What fits below an axis: of a day its month and day, of a moment its date or its clock.
function short(label, kind, instants) {
  if (instants === "date") return label.split(" ")[0];
  if (instants === "clock") return label.replace(/^\S+ /, "");
  return kind === "bar" ? label.slice(5) : label;
}

// Of a table of imports or modalities only the images are drawn; batches and series are of another size.
function draw(details) {
  const { kind, unit, names, labels, values } = read(details);
  const { series, text, grid } = colours();
  const shown = kind === "line" ? names.length : 1;
  const write = (value) => (unit === "size" ? size(value) : written(value));
  const measure = {
    beginAtZero: true,
    grid: { color: grid },
    border: { display: false },
    ticks: { color: text, precision: 0, maxTicksLimit: 6, callback: (value) => write(value) },
  };
  const naming = {
    grid: { display: false },
    border: { color: grid },
    ticks: {
      color: text,
      maxRotation: 0,
      autoSkip: kind !== "rows",
      autoSkipPadding: 16,
      callback: (_value, index) => short(labels[index], kind, details.dataset.instants),
    },
  };
  const horizontal = kind === "rows";
  const canvas = document.getElementById(details.dataset.canvas);
  return new Chart(canvas, {
    type: kind === "line" ? "line" : "bar",
    data: {
      labels,
      datasets: names.slice(0, shown).map((label, number) => ({
        label,
        data: values.map((row) => row[number]),
        backgroundColor: series[number],
        borderColor: series[number],
        borderWidth: kind === "line" ? 2 : 0,
        // Two lines are told apart without their colours too.
        borderDash: number ? [6, 4] : [],
        pointRadius: labels.length > 1 ? 0 : 4,
        pointHitRadius: 8,
        borderRadius: kind === "line" ? 0 : 3,
        maxBarThickness: 28,
      })),
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      indexAxis: horizontal ? "y" : "x",
      interaction: { mode: "index", intersect: false, axis: horizontal ? "y" : "x" },
      scales: horizontal ? { x: measure, y: naming } : { x: naming, y: measure },
      plugins: {
        legend: { display: shown > 1, labels: { color: text, boxWidth: 24, boxHeight: 2 } },
        tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${write(item.raw)}` } },
      },
    },
  });
}

function start() {
  const tables = [...document.querySelectorAll("details[data-chart]")];
  const charts = tables.map((details) => {
    document.getElementById(details.dataset.canvas).parentElement.hidden = false;
    details.open = false;
    return draw(details);
  });
  // Another theme has other colours.
  new MutationObserver(() => {
    charts.forEach((chart, number) => {
      chart.destroy();
      charts[number] = draw(tables[number]);
    });
  }).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
}

start();
