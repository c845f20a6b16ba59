/* Over time: a chart of stacked bars, its legend of buttons, and the same as a table. */
const Spending = (() => {
  const { byId, fill, make, row, write } = Elements;
  const SERIES_MAX = 8;
  const BARS_MAX = 124;
  const REST = "rest";

  const MEASURES = {
    cost: { of: (sums) => Figures.dollars(sums.nano), text: (sums, decimals) => Figures.usd(sums.nano, decimals), name: "Cost" },
    calls: { of: (sums) => sums.calls, text: (sums) => Figures.count(sums.calls), name: "Calls" },
    tokens: { of: (sums) => sums.input + sums.output, text: (sums) => Figures.count(sums.input + sums.output), name: "Tokens" },
  };

  const hidden = new Set();
  let chart = null;
  let now = null; // what the chart shows
  let tableFor = null;

  const coarser = { hour: "day", day: "week", week: "month", month: "year" };

  const beginning = (period, unit) => {
    if (unit === "year") return `${period.slice(0, 4)}-01-01`;
    if (unit === "month") return `${period.slice(0, 7)}-01`;
    if (unit === "day") return period.slice(0, 10);
    const day = Figures.instant(period.slice(0, 10));
    return new Date(day - ((day.getUTCDay() + 6) % 7) * Ledger.DAY_MS).toISOString().slice(0, 10);
  };

  const next = (period, unit) => {
    const at = Figures.instant(period);
    if (unit === "hour") return `${new Date(+at + 3_600_000).toISOString().slice(0, 13)}:00`;
    if (unit === "year") at.setUTCFullYear(at.getUTCFullYear() + 1);
    else if (unit === "month") at.setUTCMonth(at.getUTCMonth() + 1);
    else at.setUTCDate(at.getUTCDate() + (unit === "week" ? 7 : 1));
    return at.toISOString().slice(0, 10);
  };

  /* All periods from the first to the last, also those without a call; null where they are too many. */
  const between = (first, last, unit) => {
    const periods = [];
    for (let period = first; period <= last; period = next(period, unit)) {
      if (periods.length === BARS_MAX) return null;
      periods.push(period);
    }
    return periods;
  };

  /* The bars' periods, as short as there is room for. */
  const axis = (ledger, selection) => {
    let { unit } = selection.table;
    const periods = selection.cells.map((cell) => cell.period);
    let first = periods.reduce((a, b) => (a < b ? a : b));
    let last = periods.reduce((a, b) => (a > b ? a : b));
    if (selection.from !== null && selection.to === null) {
      // A period that was asked for is shown whole, also where nothing happened.
      const today = ledger.now.toISOString();
      if (unit === "hour" || unit === "day") {
        first = unit === "hour" && selection.from.length === 10 ? `${selection.from}T00:00` : selection.from;
        const current = unit === "hour" ? `${today.slice(0, 13)}:00` : today.slice(0, 10);
        if (current > last) last = current;
      }
    }
    for (;;) {
      const found = between(first, last, unit);
      if (found || !coarser[unit]) return { unit, periods: found ?? [...new Set(periods)].sort() };
      unit = coarser[unit];
      first = beginning(first, unit);
      last = beginning(last, unit);
    }
  };

  const colors = () => {
    const probe = make("span", { hidden: true });
    document.body.append(probe);
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const found = {
      series: Array.from({ length: SERIES_MAX }, (_, number) => read(`s${number + 1}`)),
      rest: read("rest"), text: read("dim"), line: read("line"), surface: read("surface"), strong: read("text"),
    };
    probe.remove();
    return found;
  };

  /* The series: the largest by what is measured; each value has the same colour whatever is chosen. */
  const seriesOf = (ledger, selection, name, at, measure) => {
    const groups = Ledger.group(selection.cells, (cell) => cell.places[at]);
    const order = [...groups.keys()]
      .filter((number) => number !== Ledger.OTHER)
      .sort((a, b) => MEASURES[measure].of(groups.get(b)) - MEASURES[measure].of(groups.get(a)) || a - b);
    const most = order.length > SERIES_MAX || groups.has(Ledger.OTHER) ? SERIES_MAX - 1 : SERIES_MAX;
    const shown = order.slice(0, most);
    const taken = new Map();
    const free = new Set(Array.from({ length: SERIES_MAX }, (_, number) => number));
    for (const number of shown) {
      const own = ledger.tables[0].values[name].indexOf(selection.table.values[name][number]);
      if (free.delete(own)) taken.set(number, own);
    }
    for (const number of shown) {
      if (taken.has(number)) continue;
      const [color] = free;
      free.delete(color);
      taken.set(number, color);
    }
    const series = shown.map((number) => ({ key: `${name}=${selection.table.values[name][number]}`, label: Ledger.label(selection.table, name, number), color: taken.get(number), places: new Set([number]) }));
    if (groups.size > shown.length) {
      const rest = [...groups.keys()].filter((number) => !shown.includes(number));
      const count = rest.filter((number) => number !== Ledger.OTHER).length + (groups.has(Ledger.OTHER) ? selection.table.folded[name] : 0);
      series.push({ key: REST, label: `${Figures.count(count)} others`, color: null, places: new Set(rest) });
    }
    return series;
  };

  const measured = (ledger, selection, state) => {
    const { unit, periods } = axis(ledger, selection);
    const at = ledger.dimensions.indexOf(state.stack);
    const series = seriesOf(ledger, selection, state.stack, at, state.measure);
    const slot = new Map(periods.map((period, number) => [period, number]));
    const of = new Map();
    series.forEach((each, number) => each.places.forEach((place) => of.set(place, number)));
    const isSame = unit === selection.table.unit;
    const sums = Ledger.group(selection.cells, (cell) => {
      const period = isSame ? cell.period : beginning(cell.period, unit);
      return of.get(cell.places[at]) * periods.length + slot.get(period);
    });
    const empty = Ledger.total([]);
    series.forEach((each, number) => {
      each.sums = periods.map((_, where) => sums.get(number * periods.length + where) ?? empty);
    });
    return { unit, periods, series, measure: state.measure, stack: state.stack };
  };

  const amount = (value, measure, most) => {
    if (measure !== "cost") return Figures.short(value);
    if (value === 0) return "$0";
    const decimals = most >= 10 ? 0 : Math.min(9, 2 - Math.floor(Math.log10(most)));
    return value >= 10_000 ? `$${Figures.compact.format(value)}` : `$${value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })}`;
  };

  const configuration = () => ({
    type: "bar",
    data: { labels: [], datasets: [] },
    options: {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      layout: { padding: { top: 6 } },
      scales: {
        x: { stacked: true, border: { display: false }, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 18, callback: (_, number) => Figures.tick(now.periods[number], now.unit) } },
        y: { stacked: true, beginAtZero: true, border: { display: false }, ticks: { maxTicksLimit: 6, padding: 8, callback(value) { return amount(value, now.measure, this.max); } } },
      },
      plugins: {
        legend: { display: false },
        tooltip: {
          itemSort: (a, b) => b.raw - a.raw,
          filter: (item) => item.raw !== 0,
          padding: 10, boxPadding: 5, usePointStyle: true,
          callbacks: {
            title: ([item]) => (item ? Figures.period(now.periods[item.dataIndex], now.unit) : ""),
            label: (item) => ` ${text(now.series[item.datasetIndex].sums[item.dataIndex], item.chart.tooltip.dataPoints)}  ${item.dataset.label}`,
            footer: (items) => (items.length > 1 ? `${text(inAll(items), items)}  in all` : ""),
          },
        },
      },
    },
  });

  /* An amount beside others, with as many decimals as these. */
  const text = (sums, items) => MEASURES[now.measure].text(sums, Figures.places([inAll(items ?? []).nano, sums.nano]));

  const inAll = (items) => {
    const all = Ledger.total([]);
    for (const item of items) {
      const sums = now.series[item.datasetIndex].sums[item.dataIndex];
      for (const name of Object.keys(all)) all[name] += sums[name];
    }
    return all;
  };

  const paint = () => {
    const palette = colors();
    chart ??= new Chart(byId("chart"), configuration());
    const { x, y } = chart.options.scales;
    x.ticks.color = y.ticks.color = palette.text;
    y.grid = { color: palette.line, drawTicks: false };
    chart.options.font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
    Object.assign(chart.options.plugins.tooltip, {
      backgroundColor: palette.surface, titleColor: palette.strong, bodyColor: palette.strong, footerColor: palette.strong,
      borderColor: palette.line, borderWidth: 1,
    });
    chart.data.labels = now.periods;
    chart.data.datasets = now.series.map((each) => {
      const color = each.color === null ? palette.rest : palette.series[each.color];
      return {
        label: each.label, data: each.sums.map(MEASURES[now.measure].of), backgroundColor: color, hoverBackgroundColor: color, hidden: hidden.has(each.key),
        borderColor: palette.surface, borderWidth: { top: 1 }, borderSkipped: false, borderRadius: 2, pointStyle: "rectRounded", maxBarThickness: 56, categoryPercentage: 0.86, barPercentage: 0.96,
      };
    });
    chart.update("none");
  };

  const legend = () => {
    const list = byId("legend");
    const key = document.activeElement?.dataset?.series;
    list.replaceChildren(...now.series.map((each) => {
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = each.color === null ? "var(--rest)" : `var(--s${each.color + 1})`;
      const button = make("button", { type: "button", class: "series", "data-series": each.key, "aria-pressed": String(!hidden.has(each.key)), onclick: () => {
        if (!hidden.delete(each.key)) hidden.add(each.key);
        paint();
        legend();
      } }, [swatch, make("span", { text: each.label })]);
      return make("li", {}, [button]);
    }));
    for (const button of list.querySelectorAll("button")) if (key !== undefined && button.dataset.series === key) button.focus();
  };

  const describe = () => {
    const all = now.periods.map((_, at) => now.series.reduce((sum, each) => sum + MEASURES[now.measure].of(each.sums[at]), 0));
    const peak = all.indexOf(Math.max(...all));
    const when = (at) => Figures.period(now.periods[at], now.unit);
    const sums = Ledger.total([]);
    for (const each of now.series) for (const name of Object.keys(sums)) sums[name] += each.sums[peak][name];
    const measure = MEASURES[now.measure];
    byId("chart").setAttribute("aria-label", `${measure.name} by ${now.unit}, stacked by ${Ledger.title(now.stack).toLowerCase()}: bars from ${when(0)} to ${when(now.periods.length - 1)}.`);
    write(byId("chart-note"), `Most in one ${now.unit}: ${measure.text(sums)}, ${when(peak)}.`);
    tableFor = null;
    table();
  };

  /* Filled only when it is open: it may be long. */
  const table = () => {
    if (!byId("chart-details").open || tableFor === now) return;
    tableFor = now;
    const measure = MEASURES[now.measure];
    const decimals = Figures.places(now.series.flatMap((each) => each.sums.map((sums) => sums.nano)));
    const columns = [{ name: now.unit[0].toUpperCase() + now.unit.slice(1) }, ...now.series.map((each) => ({ name: each.label, class: "num" }))];
    const rows = now.periods.map((period, at) => row(columns, [Figures.period(period, now.unit), ...now.series.map((each) => measure.text(each.sums[at], decimals))]));
    fill(byId("chart-table"), `${measure.name} by ${now.unit}`, columns, rows);
  };

  const show = (ledger, selection, state) => {
    now = measured(ledger, selection, state);
    paint();
    legend();
    describe();
  };

  byId("chart-details").addEventListener("toggle", table);

  return { paint: () => now && paint(), show };
})();
