/* The data of the page: which cells are chosen, and their sums. docs/page.md describes the object. */
const Ledger = (() => {
  const OTHER = -1;
  const ESTIMATED = new Set(["estimated", "partial"]);
  const DAY_MS = 86_400_000;

  const zero = () => ({ calls: 0, input: 0, output: 0, nano: 0n, unknown: 0, estimated: 0, estimatedNano: 0n, errors: 0 });

  const addTo = (sums, cell) => {
    sums.calls += cell.calls;
    sums.input += cell.input;
    sums.output += cell.output;
    sums.nano += cell.nano;
    sums.unknown += cell.unknown;
    if (cell.isEstimated) {
      sums.estimated += cell.calls;
      sums.estimatedNano += cell.nano;
    }
    if (cell.isError) sums.errors += cell.calls;
  };

  const decode = (table, dimensions) => {
    const source = dimensions.indexOf("usage_source");
    const outcome = dimensions.indexOf("outcome");
    const values = dimensions.map((name) => table.values[name]);
    const width = dimensions.length;
    const cells = table.cells.map((row) => ({
      period: table.periods[row[0]],
      places: row.slice(1, width + 1),
      calls: Number(row[width + 1]),
      input: Number(row[width + 2]),
      output: Number(row[width + 3]),
      nano: BigInt(row[width + 4]),
      unknown: Number(row[width + 5]),
      isEstimated: ESTIMATED.has(values[source][row[1 + source]]),
      isError: values[outcome][row[1 + outcome]] === "error",
    }));
    return { ...table, cells };
  };

  /* What the page's JSON says, ready for questions. */
  const open = (data) => {
    const tables = data.tables.map((table) => decode(table, data.dimensions));
    return { ...data, tables, now: new Date(data.generated_at) };
  };

  const iso = (moment) => moment.toISOString().slice(0, 10);
  const hour = (moment) => `${moment.toISOString().slice(0, 13)}:00`;

  /* Which table has the calls of a period, and from when to before when: as text, like the periods' names. */
  const range = (ledger, state) => {
    const [base] = ledger.tables;
    const hours = ledger.tables.find((table) => table.unit === "hour") ?? base;
    const today = iso(ledger.now);
    if (state.period === "today") return { table: hours, from: today, to: null };
    if (state.period === "24h") return { table: hours, from: hour(new Date(ledger.now - 23 * 3_600_000)), to: null };
    const days = { "7d": 7, "30d": 30, "90d": 90 }[state.period];
    if (days) return { table: base, from: iso(new Date(ledger.now - (days - 1) * DAY_MS)), to: null };
    if (state.period !== "custom") return { table: base, from: null, to: null };
    const to = state.to ? iso(new Date(Date.parse(`${state.to}T00:00Z`) + DAY_MS)) : null;
    return { table: base, from: state.from || null, to };
  };

  /* The number of a value, `OTHER` for those folded together, null for all. A value that is gone has no calls. */
  const place = (table, name, wanted) => {
    if (wanted === undefined) return null;
    if (wanted.other) return OTHER;
    const found = table.values[name].indexOf(wanted.value);
    return found < 0 ? -2 : found;
  };

  const select = (ledger, state) => {
    const { table, from, to } = range(ledger, state);
    const wanted = ledger.dimensions.map((name) => place(table, name, state.filters[name]));
    const cells = table.cells.filter(
      (cell) =>
        (from === null || cell.period >= from) &&
        (to === null || cell.period < to) &&
        wanted.every((number, at) => number === null || number === cell.places[at]),
    );
    return { table, from, to, cells };
  };

  const total = (cells) => {
    const sums = zero();
    for (const cell of cells) addTo(sums, cell);
    return sums;
  };

  /* Sums by what `keyOf` says of a cell. */
  const group = (cells, keyOf) => {
    const groups = new Map();
    for (const cell of cells) {
      const key = keyOf(cell);
      let sums = groups.get(key);
      if (sums === undefined) groups.set(key, (sums = zero()));
      addTo(sums, cell);
    }
    return groups;
  };

  const label = (table, name, number) => {
    if (number === OTHER) return `${Figures.count(table.folded[name])} others`;
    const value = table.values[name][number];
    return value === "" ? "(none)" : value;
  };

  const title = (name) =>
    ({ project: "Project", model: "Model", provider: "Provider", outcome: "Outcome", usage_source: "Usage source" })[name] ??
    `Tag ${name.slice("tag:".length)}`;

  return { OTHER, DAY_MS, group, label, open, select, title, total };
})();
