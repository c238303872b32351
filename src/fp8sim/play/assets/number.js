/* Part 1, a number: what it becomes in a format, and why; its bits, and all others beside them. */
(() => {
  "use strict";

  const { make, labelled, select, segments, show, short, parse, say } = fp8sim.page;
  const { codeOf, decode, encode, nextValue, neighbours, round } = fp8sim.arithmetic;
  const { title, fields, hex, product, fate, error, signedError, explain } = fp8sim.words;
  const { formats, roundings } = fp8sim.data;

  const defaults = {
    value: "0.3", // a number, or the code of the first format: 0x2a
    format: "e4m3,e5m2,bf16", // the first is taken apart, the others are set beside it
    rounding: "nearest-even",
    overflow: "default",
    draw: "0.5", // the random number of stochastic rounding
    from: "auto", // of the ruler
    to: "auto",
  };

  /** A state made fit to be drawn: what makes no sense is the default. */
  function read(state) {
    const chosen = [...new Set(state.format.split(","))].filter((name) => Object.hasOwn(formats, name));
    const lanes = chosen.length ? chosen : defaults.format.split(",");
    const rounding = Object.hasOwn(roundings, state.rounding) ? state.rounding : defaults.rounding;
    const policy = ["saturate", "ieee"].includes(state.overflow) ? state.overflow : "default";
    const fmt = formats[lanes[0]], overflows = lanes.map((name) => (policy === "default" ? formats[name].overflow : policy));
    const random = Number(state.draw), draw = random >= 0 && random < 1 ? random : 0.5;
    const [low, high] = [Number(state.from), Number(state.to)];
    const view = state.from !== "auto" && Number.isFinite(low) && Number.isFinite(high) && high > low ? { low, high } : null;
    const given = /^0x([0-9a-f]{1,8})$/i.exec(state.value.trim());
    const asCode = given ? parseInt(given[1], 16) : null;
    const x = asCode === null ? parse(state.value) : asCode < 2 ** fmt.bits ? decode(asCode, fmt) : null;
    const values = x === null ? [] : lanes.map((name, i) => round(x, name, rounding, overflows[i], draw));
    const code = asCode ?? (x === null ? null : encode(x, fmt, rounding, overflows[0], draw));
    return { lanes, rounding, policy, overflows, draw, view, x, values, code, fmt };
  }

  /** What a code is written as: its number, or the code itself where several mean the same. */
  function textOf(code, fmt) {
    const value = decode(code, fmt);
    return Number.isNaN(value) || codeOf(value, fmt) !== code ? hex(code, fmt) : show(value).replace("infinity", "inf");
  }

  const superscript = (base, exponent) => [base, make("sup", {}, String(exponent).replace("-", "\u2212"))];

  /** The bits to press, each field with what it means. */
  function bitGroups(code, fmt, flip) {
    const value = decode(code, fmt);
    let place = fmt.bits;
    return fields(code, fmt).map(([field, bits]) => {
      const name = fmt.twos_complement ? "two's complement" : field;
      const cells = [...bits].map((bit) => {
        const worth = 2 ** --place, weight = weightOf(field, place, fmt);
        return make("button", {
          type: "button", className: `bit ${field}-bit`, "aria-pressed": String(bit === "1"), id: `bit-${place}`,
          title: `${name} bit${weight.spoken}`,
          onclick: () => flip(bit === "1" ? code - worth : code + worth),
        }, make("span", { className: "spoken" }, `${name} bit${weight.spoken}: `), bit, make("small", { "aria-hidden": "true" }, ...weight.shown));
      });
      return make("div", { className: "bit-group" },
        make("div", { className: "bit-cells" }, ...cells),
        make("p", { className: "meaning" }, make("b", {}, name), " ", ...meaning(field, bits, value, fmt)));
    });
  }

  /** What one bit is worth: in the exponent's number, or of the significand. */
  function weightOf(field, place, fmt) {
    if (fmt.twos_complement) {
      const worth = (place === fmt.bits - 1 ? -1 : 1) * 2 ** place;
      return { shown: [String(worth)], spoken: `, worth ${worth}` };
    }
    if (field === "sign") return { shown: ["\u00b1"], spoken: "" };
    if (field === "exponent") {
      const worth = 2 ** (place - fmt.mantissa_bits);
      return { shown: [String(worth)], spoken: `, worth ${worth}` };
    }
    const power = place - fmt.mantissa_bits;
    return { shown: power > -4 ? [`1/${2 ** -power}`] : superscript("2", power), spoken: `, worth 2 to the power ${power}` };
  }

  function meaning(field, bits, value, fmt) {
    const size = 2 ** fmt.mantissa_bits, n = parseInt(bits, 2);
    if (fmt.twos_complement) return [show(value)];
    if (field === "sign") return [bits === "1" ? "negative" : "positive"];
    const special = !Number.isFinite(value) && (Number.isNaN(value) ? "NaN" : "infinity");
    if (special) return [`all together: ${special}`];
    const subnormal = fmt.zero && Math.abs(value) < fmt.smallest_normal;
    if (field === "exponent") {
      if (subnormal) return [`0: subnormal, ${fmt.emin}`];
      return [`${n} ${fmt.bias < 0 ? "+" : "\u2212"} ${Math.abs(fmt.bias)} = ${n - fmt.bias}`.replace(/-/g, "\u2212")];
    }
    return [`${subnormal ? 0 : 1} + ${n}/${size} = ${short((subnormal ? 0 : 1) + n / size, 8)}`];
  }

  /** What the bits say, in one line. */
  function equation(code, fmt) {
    const value = decode(code, fmt), parts = product(value, fmt);
    if (!parts || fmt.twos_complement) return [hex(code, fmt), " is ", make("b", {}, show(value))];
    const sign = parts.sign === "-" ? "\u2212" : fmt.signed ? "+" : "";
    return [`${sign}${show(parts.significand)} \u00d7 `, ...superscript("2", parts.exponent), " = ", make("b", {}, show(value))];
  }

  /** One line of the table: a format, its bits, what the number becomes there. */
  function row(name, i, { x, values, rounding, overflows, draw }, take, drop) {
    const fmt = formats[name], value = values[i], first = i === 0;
    const code = encode(x, fmt, rounding, overflows[i], draw);
    const bits = code === null ? [] : fields(code, fmt).flatMap(([field, text]) => [make("span", { className: `${field}-bit` }, text)]);
    const what = fate(x, value, fmt, rounding, draw);
    const lost = ["saturated", "overflowed", "flushed to 0", "NaN", "refused"].includes(what);
    const chooser = first ? make("b", {}, title(name))
      : make("button", { type: "button", className: "link", onclick: () => take(name), title: `Take ${title(name)} apart` }, title(name));
    const cell = (role, properties, ...children) => make(role === "rowheader" ? "th" : "td", { role, ...properties }, ...children);
    return make("tr", { role: "row", className: first ? "first" : "" },
      cell("rowheader", { scope: "row" }, chooser),
      cell("cell", { className: "bits" }, ...bits),
      cell("cell", { className: "becomes" }, value === null ? "\u2013" : short(value, 9)),
      cell("cell", { className: lost ? "off lost" : "off" }, lost ? what : signedError(x, value)),
      cell("cell", { className: "drop" }, first ? "" : make("button", {
        type: "button", className: "plain", "aria-label": `Take ${title(name)} away`, title: "Take away", onclick: () => drop(name),
      }, "\u00d7")));
  }

  function mount(root, state, change) {
    let now = read(state);
    const write = (text) => change({ value: text });
    const setCode = (code) => write(textOf(code, now.fmt));

    const told = make("p", { className: "told" }), why = make("p", { className: "why" });
    const input = make("input", { type: "text", id: "value", autocomplete: "off", spellcheck: false, inputMode: "text" });
    input.setAttribute("autocapitalize", "off");
    input.addEventListener("input", () => write(input.value));
    const problem = make("p", { className: "problem", id: "value-problem", role: "alert" });
    const step = (direction) => {
      const next = nextValue(now.x, direction, now.fmt);
      if (Number.isFinite(now.x) && next !== null) write(show(next));
    };
    input.addEventListener("keydown", (event) => {
      const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!direction || now.x === null) return;
      event.preventDefault();
      step(direction);
    });
    const first = select(Object.keys(formats).map((name) => [name, title(name)]), (name) =>
      change({ format: [name, ...now.lanes.slice(1).filter((other) => other !== name)].join(","), from: "auto", to: "auto" }));
    first.id = "format";
    const rounding = select(Object.keys(roundings).map((name) => [name, name.replace("-", " ")]), (name) => change({ rounding: name }));
    rounding.id = "rounding";
    const overflow = segments("Beyond the largest value", [["default", "as GPUs do"], ["saturate", "saturate"], ["ieee", "IEEE 754"]],
      (value) => change({ overflow: value }));
    const random = make("input", { type: "range", id: "draw", min: "0", max: "0.999", step: "0.001" });
    random.addEventListener("input", () => change({ draw: random.value }));
    const chance = labelled("Random number", random);
    const ruler = fp8sim.ruler((x, view) => {
      if (x !== null) write(show(x));
      else change(view ? { from: String(view.low), to: String(view.high) } : { from: "auto", to: "auto" });
    });
    const wheel = fp8sim.wheel(setCode);
    const groups = make("div", { className: "bit-groups", role: "group", "aria-label": "Bits: press one to change it" });
    const sum = make("p", { className: "equation" });
    const code = make("input", { type: "text", id: "code", autocomplete: "off", spellcheck: false, size: 11 });
    code.addEventListener("change", () => {
      const digits = /^(?:0x)?([0-9a-f]{1,8})$/i.exec(code.value.trim());
      if (digits && parseInt(digits[1], 16) < 2 ** now.fmt.bits) setCode(parseInt(digits[1], 16));
      else code.value = now.code === null ? "" : hex(now.code, now.fmt);
    });
    const turn = (by) => setCode(((now.code ?? 0) + by + 2 ** now.fmt.bits) % 2 ** now.fmt.bits);
    const previous = make("button", { type: "button", className: "plain", id: "previous", onclick: () => turn(-1) }, "\u25c2 previous");
    const next = make("button", { type: "button", className: "plain", id: "next", onclick: () => turn(1) }, "next \u25b8");
    const bitsTitle = make("h2"), bitsHint = make("p", { className: "hint" }, "Press a bit to change it.");
    const noWheel = make("p", { className: "hint" });
    const wheelBox = make("figure", { className: "wheel-box" }, wheel.element,
      make("figcaption", { className: "hint" }, "All codes in order, clockwise from 0: a spoke is as long as its value has octaves, " +
        "and octaves take turns in colour. Drag along it."));
    const body = make("tbody", { role: "rowgroup" });
    const heads = ["format", "bits", "becomes", "error", ""].map((text) =>
      text ? make("th", { role: "columnheader", scope: "col" }, text) : make("td", { role: "cell" }));
    const table = make("table", { role: "table", className: "side" },
      make("caption", {}, "The number in each format. Press a name to take that one apart."),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), body);
    const more = select([["", "Add a format\u2026"]], (name) => name && change({ format: [...now.lanes, name].join(",") }));
    more.id = "more";
    more.setAttribute("aria-label", "Add a format to compare");

    root.append(
      told, why,
      make("div", { className: "controls" },
        make("div", { className: "field" }, make("label", { htmlFor: "value" }, "Number"),
          make("div", { className: "joined" }, input,
            make("button", { type: "button", className: "plain", "aria-label": "Next smaller value", onclick: () => step(-1) }, "\u2212"),
            make("button", { type: "button", className: "plain", "aria-label": "Next larger value", onclick: () => step(1) }, "+"))),
        labelled("Format", first), labelled("Rounding", rounding),
        make("div", { className: "field" }, make("span", { className: "label", "aria-hidden": "true" }, "Beyond the largest value"), overflow.element),
        chance),
      problem, ruler.element,
      make("div", { className: "halves" },
        make("section", {}, bitsTitle, bitsHint, groups, sum,
          make("div", { className: "code-row tools" }, labelled("Code", code), previous, next),
          make("h2", {}, "Beside other formats"), table, make("div", { className: "tools" }, more)),
        make("section", {}, make("h2", {}, "The wheel"), wheelBox, noWheel)),
    );
    input.setAttribute("aria-describedby", "value-problem");

    function paintBits() {
      const held = document.activeElement?.id ?? "";
      bitsTitle.textContent = `The bits of ${title(now.fmt.name)}`;
      groups.replaceChildren(...(now.code === null ? [make("p", {}, "No code.")] : bitGroups(now.code, now.fmt, setCode)));
      sum.replaceChildren(...(now.code === null ? [] : equation(now.code, now.fmt)));
      if (held.startsWith("bit-")) document.getElementById(held)?.focus({ preventScroll: true });
      if (document.activeElement !== code) code.value = now.code === null ? "" : hex(now.code, now.fmt);
      const small = now.fmt.bits <= 8;
      wheelBox.hidden = !small;
      noWheel.textContent = small ? "" : `The wheel is for formats of at most 8 bits; ${title(now.fmt.name)} has ` +
        `${(2 ** now.fmt.bits).toLocaleString("en")} codes.`;
      if (small) wheel.update({ fmt: now.fmt, code: now.code });
    }

    function paintTable() {
      const set = (names) => change({ format: names.join(",") });
      body.replaceChildren(...now.lanes.map((name, i) => row(name, i, now,
        (taken) => change({ format: [taken, ...now.lanes.filter((other) => other !== taken)].join(","), from: "auto", to: "auto" }),
        (dropped) => set(now.lanes.filter((other) => other !== dropped)))));
      const others = Object.keys(formats).filter((name) => !now.lanes.includes(name));
      more.replaceChildren(make("option", { value: "" }, "Add a format\u2026"), ...others.map((name) => make("option", { value: name }, title(name))));
    }

    return (latest) => {
      now = read(latest);
      if (input.value !== latest.value && document.activeElement !== input) input.value = latest.value;
      else if (document.activeElement === input && parse(input.value) !== now.x) input.value = latest.value;
      [first.value, rounding.value, random.value] = [now.lanes[0], now.rounding, String(now.draw)];
      overflow.press(now.policy);
      chance.hidden = now.rounding !== "stochastic";
      input.setAttribute("aria-invalid", String(now.x === null));
      problem.textContent = now.x === null ? `\u201c${latest.value}\u201d is no number: write it like 0.3, 1/3, 2^-9, inf or 0x2a` : "";
      if (now.x === null) return;
      const { x, fmt, values: [value] } = now;
      const name = title(fmt.name), off = error(x, value);
      told.replaceChildren(make("b", {}, show(x)), value === null ? " is refused by " : " becomes ",
        ...(value === null ? [] : [make("b", { className: "result" }, show(value)), " in "]), name,
        off && off !== "exact" ? `: ${off}.` : off ? ": exactly itself." : ".");
      why.textContent = explain({ x, value, fmt, rounding: now.rounding, overflow: now.overflows[0], draw: now.draw,
        around: Number.isFinite(x) ? neighbours(x, fmt) : {} });
      ruler.update({ ...now, words: told.textContent });
      paintBits();
      paintTable();
      say(`${told.textContent} ${why.textContent}`);
    };
  }

  fp8sim.parts.number = { title: "A number", defaults, mount };
})();
