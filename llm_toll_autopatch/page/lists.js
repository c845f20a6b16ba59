/* The cards and tables. */
const Lists = (() => {
  const { bar, byId, fill, make, row, toggle, write } = Elements;
  const GROUPS_MAX = 25;
  const CALLS_STEP = 15;
  let callsShown = CALLS_STEP;

  const mark = (sums) => (sums.estimated ? "~" : "");

  /* A cost with its marks, and the exact amount for those who point at it. */
  const cost = (sums, decimals) => {
    if (sums.calls && sums.unknown === sums.calls) return make("span", { class: "dim", text: "unknown" });
    return make("span", { text: mark(sums) + Figures.usd(sums.nano, decimals), title: Figures.exactly(sums.nano) });
  };

  const summary = (sums) => {
    const known = sums.calls - sums.unknown;
    const card = (name, value, note, exact) =>
      make("div", { class: "card" }, [make("dt", { text: name }), make("dd", { class: "value", text: value, title: exact }), make("dd", { class: "note", text: note })]);
    const everyUnknown = sums.calls > 0 && known === 0;
    byId("summary").replaceChildren(
      card(
        "Spent",
        everyUnknown ? "unknown" : mark(sums) + Figures.usd(sums.nano),
        sums.unknown ? `without ${Figures.plural(sums.unknown, "call")} of unknown cost` : "the cost of every call is known",
        Figures.exactly(sums.nano),
      ),
      card("Calls", Figures.count(sums.calls), sums.errors ? `${Figures.count(sums.errors)} failed (${Figures.percent(sums.errors, sums.calls)})` : "none failed"),
      card("Input tokens", mark(sums) + Figures.short(sums.input), `${Figures.short(sums.calls ? sums.input / sums.calls : 0)} a call`, Figures.count(sums.input)),
      card("Output tokens", mark(sums) + Figures.short(sums.output), `${Figures.short(sums.calls ? sums.output / sums.calls : 0)} a call`, Figures.count(sums.output)),
      card("A call costs", known ? mark(sums) + Figures.usd(sums.nano / BigInt(known)) : "unknown", "on average, where it is known"),
    );
  };

  const notes = (sums) =>
    [
      sums.unknown && sums.unknown !== sums.calls ? `${Figures.count(sums.unknown)} unknown` : "",
      sums.errors ? `${Figures.count(sums.errors)} failed` : "",
    ].filter(Boolean).join(", ");

  const breakdown = (ledger, selection, state, filter) => {
    const name = state.by;
    const at = ledger.dimensions.indexOf(name);
    const groups = [...Ledger.group(selection.cells, (cell) => cell.places[at])].sort(
      ([, a], [, b]) => (a.nano === b.nano ? b.calls - a.calls : a.nano < b.nano ? 1 : -1),
    );
    const all = Ledger.total(selection.cells);
    const decimals = Figures.places(groups.map(([, sums]) => sums.nano));
    const columns = [
      { name: Ledger.title(name) }, { name: "Cost", class: "num" }, { name: "Share", class: "share" }, { name: "Calls", class: "num" },
      { name: "Input", class: "num" }, { name: "Output", class: "num" }, { name: "Notes", class: "notes" },
    ];
    const rows = groups.slice(0, GROUPS_MAX).map(([number, sums]) => {
      const isOnly = Boolean(state.filters[name]);
      const label = Ledger.label(selection.table, name, number);
      const pick = make("button", {
        type: "button", class: "pick", text: label, "data-key": `pick ${number}`, "aria-pressed": String(isOnly),
        title: isOnly ? "Show all again" : "Show only these calls",
        onclick: () => filter(name, isOnly ? undefined : number === Ledger.OTHER ? { other: true } : { value: selection.table.values[name][number] }),
      });
      const share = all.nano ? Figures.dollars(sums.nano) / Figures.dollars(all.nano) : 0;
      const shares = make("span", { class: "with-bar" }, [make("span", { class: "num", text: Figures.percent(share, 1) }), bar([[share, "fill"]])]);
      return row(columns, [pick, cost(sums, decimals), shares, Figures.count(sums.calls), mark(sums) + Figures.short(sums.input), mark(sums) + Figures.short(sums.output), notes(sums)]);
    });
    fill(byId("breakdown"), `Cost by ${Ledger.title(name).toLowerCase()}`, columns, rows);
    write(byId("breakdown-note"), groups.length > GROUPS_MAX ? `and ${Figures.count(groups.length - GROUPS_MAX)} more` : "");
  };

  const UNITS = {
    usd: (text, decimals) => Figures.usd(BigInt(text), decimals),
    calls: (text) => `${Figures.count(BigInt(text))} calls`,
    tokens: (text) => `${Figures.short(Number(text))} tokens`,
  };
  const WINDOWS = { total: "for ever", daily: "a day", weekly: "a week", monthly: "a month" };

  const budgets = (ledger, state) => {
    const wanted = state.filters.project;
    const shown = (ledger.budgets ?? []).filter((each) => !wanted || each.project === wanted.value);
    toggle(byId("budgets-panel"), shown.length > 0);
    const columns = [
      { name: "Project" }, { name: "Spent", class: "num" }, { name: "Held", class: "num" }, { name: "Cap", class: "num" }, { name: "", class: "window" },
      { name: "Used", class: "share" }, { name: "Left", class: "num" }, { name: "Starts anew", class: "when" },
    ];
    const rows = shown.map((each) => {
      const decimals = Figures.places([BigInt(each.cap)]);
      const text = (amount) => UNITS[each.unit](amount, decimals);
      const [cap, spent, held] = [each.cap, each.spent, each.held].map(BigInt);
      const left = cap - spent - held;
      const share = (part) => (cap > 0n ? Number(part) / Number(cap) : part > 0n ? 1 : 0);
      const level = left <= 0n ? "over" : share(spent + held) >= 0.8 ? "near" : "fill";
      const used = make("span", { class: "with-bar" }, [
        make("span", { class: `num ${level}-text`, text: Figures.percent(share(spent + held), 1) }),
        bar([[share(spent), level], [Math.min(share(held), Math.max(0, 1 - share(spent))), `${level} held`]]),
      ]);
      return row(columns, [
        each.project || "(none)", text(spent), held ? text(held) : "–", text(cap), WINDOWS[each.period] ?? each.period, used,
        left > 0n ? text(left) : left === 0n ? "nothing" : make("span", { class: "over-text", text: `${text(-left)} over` }),
        each.ends_at ? Figures.dayAndYear(new Date(each.ends_at)) : "never",
      ]);
    });
    fill(byId("budgets"), "Budgets: spent, held for calls that are under way, and cap", columns, rows);
  };

  const isChosen = (ledger, selection, state) => (call) => {
    const period = selection.table.unit === "hour" ? `${call.started_at.slice(0, 13)}:00` : call.started_at.slice(0, 10);
    if (selection.from !== null && period < selection.from) return false;
    if (selection.to !== null && period >= selection.to) return false;
    return ledger.dimensions.every((name, at) => {
      const wanted = state.filters[name];
      if (!wanted) return true;
      return wanted.other ? !ledger.tables[0].values[name].includes(call.values[at]) : call.values[at] === wanted.value;
    });
  };

  const calls = (ledger, selection, state) => {
    const list = ledger[state.calls];
    const chosen = list.filter(isChosen(ledger, selection, state));
    const shown = chosen.slice(0, callsShown);
    const value = (call, name) => call.values[ledger.dimensions.indexOf(name)] || "(none)";
    const columns = [
      { name: "Started", class: "when" }, { name: "Project" }, { name: "Model" }, { name: "Method" }, { name: "Cost", class: "num" }, { name: "Took", class: "num" },
      { name: "Input", class: "num" }, { name: "Output", class: "num" }, { name: "Outcome" },
    ];
    const decimals = Figures.places(shown.map((call) => BigInt(call.nano_usd ?? 0)));
    const rows = shown.map((call) => {
      const tilde = ["estimated", "partial"].includes(value(call, "usage_source")) ? "~" : "";
      const amount = call.nano_usd === null
        ? make("span", { class: "dim", text: "unknown" })
        : make("span", { text: tilde + Figures.usd(BigInt(call.nano_usd), decimals), title: Figures.exactly(BigInt(call.nano_usd)) });
      return row(columns, [
        Figures.moment(call.started_at), value(call, "project"), value(call, "model"), call.method, amount, Figures.seconds(call.duration_s),
        tilde + Figures.count(call.input_tokens), tilde + Figures.count(call.output_tokens),
        value(call, "outcome") + (call.error_type ? ` (${call.error_type})` : ""),
      ]);
    });
    fill(byId("calls"), state.calls === "dearest" ? "The calls that cost the most" : "The calls that took the longest", columns, rows);
    const word = state.calls === "dearest" ? "dearest" : "slowest";
    // What is not in the list may still be among the calls that are chosen.
    const isWhole = list.length < ledger.calls_max || chosen.length === list.length;
    write(byId("calls-note"), isWhole ? "" : chosen.length
      ? `These are among the ${list.length} ${word} calls of all; more such calls may come after them.`
      : `None of the ${list.length} ${word} calls of all is one of those chosen.`);
    const more = byId("calls-more");
    toggle(more, chosen.length > shown.length);
    write(more, `Show ${Math.min(CALLS_STEP, chosen.length - shown.length)} more`);
    toggle(byId("calls"), shown.length > 0);
  };

  const SOURCES = {
    reported: "the provider's own figures", partial: "some reported, the rest estimated", estimated: "none reported, so estimated", missing: "nothing is known: mostly calls that failed",
  };

  const trust = (ledger, selection) => {
    const at = ledger.dimensions.indexOf("usage_source");
    const all = Ledger.total(selection.cells);
    const groups = [...Ledger.group(selection.cells, (cell) => cell.places[at])].sort(([, a], [, b]) => b.calls - a.calls);
    const decimals = Figures.places(groups.map(([, sums]) => sums.nano));
    const columns = [{ name: "Usage source" }, { name: "Calls", class: "num" }, { name: "Share of calls", class: "share" }, { name: "Cost", class: "num" }, { name: "Share of cost", class: "num" }, { name: "That is", class: "notes" }];
    fill(byId("trust"), "Where tokens, and so costs, come from", columns, groups.map(([number, sums]) => {
      const name = Ledger.label(selection.table, "usage_source", number);
      const share = sums.calls / all.calls;
      const shares = make("span", { class: "with-bar" }, [make("span", { class: "num", text: Figures.percent(share, 1) }), bar([[share, name === "reported" ? "fill" : "near"]])]);
      return row(columns, [name, Figures.count(sums.calls), shares, cost(sums, decimals), all.nano ? Figures.percent(Figures.dollars(sums.nano), Figures.dollars(all.nano)) : "–", SOURCES[name] ?? ""]);
    }));
    unknown(ledger, selection, all);
  };

  const unknown = (ledger, selection, all) => {
    const at = ledger.dimensions.indexOf("model");
    const models = [...Ledger.group(selection.cells.filter((cell) => cell.unknown), (cell) => cell.places[at])].sort(([, a], [, b]) => b.unknown - a.unknown);
    if (!models.length) {
      byId("unknown").replaceChildren(make("p", { class: "dim", text: "The cost of every call is known." }));
      return;
    }
    const items = models.slice(0, GROUPS_MAX).map(([number, sums]) =>
      make("li", {}, [make("span", { text: Ledger.label(selection.table, "model", number) }), make("span", { class: "dim", text: ` ${Figures.plural(sums.unknown, "call")}` })]));
    byId("unknown").replaceChildren(
      make("h3", { text: `${Figures.plural(all.unknown, "call")} of unknown cost (${Figures.percent(all.unknown, all.calls)})` }),
      make("ul", { class: "inline" }, items),
      make("p", { class: "dim" }, ["The model has no known price, or the call was interrupted before any answer came. ", make("code", { text: "patch_all(prices=…)" }), " takes your own prices, ", make("code", { text: "autotoll reprice" }), " applies them to past calls."]),
    );
  };

  const more = () => { callsShown += CALLS_STEP; };
  const fewer = () => { callsShown = CALLS_STEP; };

  return { breakdown, budgets, calls, fewer, more, summary, trust };
})();
