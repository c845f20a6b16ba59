/* What is chosen: the controls, and the part of the address after `#`, which keeps it. */
const Filters = (() => {
  const { byId, make, options } = Elements;
  const PERIODS = [
    ["all", "Everything"], ["today", "Today"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"],
    ["30d", "Last 30 days"], ["90d", "Last 90 days"], ["custom", "From … to …"],
  ];
  const DATE = /^\d{4}-\d\d-\d\d$/;
  const ALL = "";
  const OTHERS = "o";

  const fresh = () => ({ period: "all", from: "", to: "", filters: {}, measure: "cost", stack: "model", by: "project", calls: "dearest" });

  const encode = (wanted) => (wanted === undefined ? ALL : wanted.other ? OTHERS : `v${wanted.value}`);
  const decode = (text) => (text === ALL ? undefined : text === OTHERS ? { other: true } : { value: text.slice(1) });

  const one = (text, known, usual) => (known.includes(text) ? text : usual);

  /* What the address says; what makes no sense there is left out. */
  const read = (ledger) => {
    const given = new URLSearchParams(location.hash.slice(1));
    const state = fresh();
    state.period = one(given.get("period"), PERIODS.map(([key]) => key), state.period);
    for (const end of ["from", "to"]) {
      const date = given.get(end) ?? "";
      if (DATE.test(date) && !Number.isNaN(Date.parse(date))) state[end] = date;
    }
    for (const name of ledger.dimensions) {
      const wanted = given.get(`is.${name}`);
      if (wanted === OTHERS || wanted?.startsWith("v")) state.filters[name] = decode(wanted);
    }
    state.measure = one(given.get("measure"), ["cost", "calls", "tokens"], state.measure);
    state.stack = one(given.get("stack"), ledger.dimensions, state.stack);
    state.by = one(given.get("by"), ledger.dimensions, state.by);
    state.calls = one(given.get("calls"), ["dearest", "slowest"], state.calls);
    return state;
  };

  const write = (state) => {
    const usual = fresh();
    const said = new URLSearchParams();
    for (const name of ["period", "from", "to", "measure", "stack", "by", "calls"])
      if (state[name] !== usual[name]) said.set(name, state[name]);
    for (const [name, wanted] of Object.entries(state.filters)) if (wanted) said.set(`is.${name}`, encode(wanted));
    const text = said.toString();
    if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };

  const isNarrowed = (state) => state.period !== "all" || Object.values(state.filters).some(Boolean);

  const clear = (state) => {
    const { period, from, to, filters } = fresh();
    Object.assign(state, { period, from, to, filters });
  };

  const choicesOf = (table, name, wanted) => {
    const choices = table.values[name].map((value) => [`v${value}`, value === "" ? "(none)" : value]);
    if (table.folded[name]) choices.push([OTHERS, `${Figures.count(table.folded[name])} others`]);
    const now = encode(wanted);
    if (wanted && !choices.some(([key]) => key === now)) choices.push([now, wanted.value ?? "others"]);
    return [[ALL, "All"], ...choices];
  };

  /* Show the controls as `state` has it; `changed` is called when somebody changes one. */
  const show = (ledger, state, changed) => {
    const form = byId("filters");
    const [base] = ledger.tables;
    const names = ledger.dimensions.filter((name) => name !== "usage_source" || base.values[name].length > 1);
    const layout = JSON.stringify(names);
    if (form.dataset.layout !== layout) {
      form.dataset.layout = layout;
      build(form, names, state, changed);
    }
    options(byId("period"), PERIODS, state.period);
    byId("custom").hidden = state.period !== "custom";
    byId("from").value = state.from;
    byId("to").value = state.to;
    for (const select of form.querySelectorAll("select[data-name]")) {
      const { name } = select.dataset;
      options(select, choicesOf(base, name, state.filters[name]), encode(state.filters[name]));
      select.classList.toggle("chosen", Boolean(state.filters[name]));
    }
    byId("reset").disabled = !isNarrowed(state);
  };

  const field = (label, control) => make("label", { class: "field" }, [label, control]);

  const build = (form, names, state, changed) => {
    const on = (element, change) => {
      element.addEventListener("change", () => {
        change(element.value);
        changed();
      });
      return element;
    };
    form.replaceChildren(
      field("Period", on(make("select", { id: "period" }), (value) => { state.period = value; })),
      make("span", { id: "custom", class: "custom", hidden: true }, [
        field("From", on(make("input", { type: "date", id: "from" }), (value) => { state.from = value; })),
        field("To", on(make("input", { type: "date", id: "to" }), (value) => { state.to = value; })),
      ]),
      ...names.map((name) =>
        field(Ledger.title(name), on(make("select", { "data-name": name }), (value) => { state.filters[name] = decode(value); }))),
      make("button", { type: "button", id: "reset", text: "Show all", onclick: () => {
        clear(state);
        changed();
        byId("period").focus();
      } }),
    );
    form.addEventListener("submit", (event) => event.preventDefault());
  };

  return { clear, isNarrowed, read, show, write };
})();
