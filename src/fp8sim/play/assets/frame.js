/* The frame: tabs of parts, their state in the address, and what every part is built of.
 *
 * A part is one file that registers itself:
 *
 *   fp8sim.parts.number = {
 *     title: "A number",                    // on its tab
 *     defaults: { value: "0.3" },           // its state: flat, short strings
 *     mount(root, state, change) {          // builds itself in `root`, once, when it is first shown
 *       return (state) => { ... };          // draws a state: called at once, and after each change
 *     },
 *   };
 *
 * `change({ value: "0.5" })` sets some of the state, writes the address and has it drawn. What differs from the
 * defaults stands in the address: "#number?value=0.5". A state may come from anyone's address: a part reads it
 * with care, and takes the default for what makes no sense. Text reaches the page as text, never as markup.
 */
(() => {
  "use strict";

  /** An element with properties or attributes, and children: elements or text. */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name in element && !name.startsWith("aria-")) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** The same for a drawing in SVG; children may be text. */
  function draw(tag, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  let names = 0;

  /** A control with its label above it, and what is said of it below: {field, control}. */
  function labelled(label, control, hint = "") {
    control.id ||= `control-${++names}`;
    const field = make("div", { className: "field" }, make("label", { htmlFor: control.id }, label), control);
    if (hint) {
      field.append(make("p", { className: "hint", id: `${control.id}-hint` }, hint));
      control.setAttribute("aria-describedby", `${control.id}-hint`);
    }
    return field;
  }

  /** A choice among [value, text] pairs; `choose(value)` when one is made. */
  function select(pairs, choose) {
    const control = make("select", { onchange: () => choose(control.value) });
    control.append(...pairs.map(([value, text]) => make("option", { value }, text)));
    return control;
  }

  /** Choices as a row of buttons of which one is pressed: {element, press(value)}. */
  function segments(label, pairs, choose) {
    const buttons = pairs.map(([value, text]) =>
      make("button", { type: "button", value, "aria-pressed": "false", onclick: () => choose(value) }, text));
    const element = make("div", { className: "segments", role: "group", "aria-label": label }, ...buttons);
    const press = (value) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.value === value)));
    return { element, press };
  }

  /**
   * Follow a mouse, a pen or a finger that moves over an element: `start(event)` says with false that it is not
   * meant; `move(event)` follows, the place where it began included; `end(event)`. With `hold` a finger that is
   * meant does not scroll the page; without it the style's touch-action decides.
   */
  function drag(element, { start = () => true, move, end = () => {}, hold = false }) {
    let pointer = null;
    // Comes after pointerdown. Chromium heeds no touch-action of a part of a drawing.
    if (hold) element.addEventListener("touchstart", (event) => pointer !== null && event.preventDefault(), { passive: false });
    element.addEventListener("pointerdown", (event) => {
      if (pointer !== null || event.button > 0 || start(event) === false) return;
      pointer = event.pointerId;
      element.setPointerCapture(pointer);
      move(event);
    });
    element.addEventListener("pointermove", (event) => event.pointerId === pointer && move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, (event) => {
        if (event.pointerId !== pointer) return;
        pointer = null;
        end(event);
      });
    }
  }

  /** Draw again when an element has another width: in a frame of its own, since that may change its height. */
  function onWidth(element, paint) {
    let width = 0;
    new ResizeObserver(() => requestAnimationFrame(() => {
      if (element.clientWidth === width) return;
      width = element.clientWidth;
      paint();
    })).observe(element);
  }

  /** A number in the fewest digits that mean it. */
  function show(x) {
    if (Object.is(x, -0)) return "-0";
    return Number.isFinite(x) ? String(x) : Number.isNaN(x) ? "NaN" : x > 0 ? "infinity" : "-infinity";
  }

  /** The same to so many digits, for tables and labels. */
  function short(x, digits = 6) {
    return Number.isFinite(x) && x !== 0 ? show(Number(x.toPrecision(digits))) : show(x);
  }

  /** A share in per cent, of three digits. */
  function percent(share) {
    if (share === 0) return "0";
    const rounded = Number((100 * share).toPrecision(3)), size = Math.abs(rounded);
    return `${size < 1e-3 || size >= 1e6 ? rounded.toExponential() : rounded}\u00a0%`;
  }

  /** Read "0.3", "-1e-3", "1/3", "2^-9", "-inf" or "nan"; null if it is no number. */
  function parse(text) {
    const [, sign, rest] = /^([+-]?)(.*)$/s.exec(text.trim().replace("−", "-").toLowerCase());
    const found = (magnitude) => (sign === "-" ? -magnitude : magnitude);
    if (/^(inf|infinity|∞)$/.test(rest)) return found(Infinity);
    if (rest === "nan") return NaN;
    const power = /^2(?:\^|\*\*)([+-]?\d{1,5})$/.exec(rest);
    if (power) return found(fp8sim.arithmetic.powerOfTwo(Number(power[1])));
    const decimal = "(?:\\d+\\.?\\d*|\\.\\d+)(?:e[+-]?\\d+)?";
    const fraction = new RegExp(`^(${decimal})(?:/(${decimal}))?$`).exec(rest);
    if (!fraction) return null;
    return found(fraction[2] === undefined ? Number(fraction[1]) : Number(fraction[1]) / Number(fraction[2]));
  }

  let later = 0;

  /** Say something to those who listen to the page: the last of what is said within a moment. */
  function say(text) {
    clearTimeout(later);
    later = setTimeout(() => (document.getElementById("said").textContent = text), 250);
  }

  /** What is in an address after its #: {part, state}, part null where it names none. */
  function read(hash) {
    const [name, rest = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
    const part = Object.hasOwn(fp8sim.parts, name) ? name : null;
    const known = part ? fp8sim.parts[part].defaults : {};
    const given = [...new URLSearchParams(rest)].filter(([key]) => Object.hasOwn(known, key));
    return { part, state: Object.fromEntries(given) };
  }

  /** The address of a part in a state, after its #. */
  function write(part, state) {
    const { defaults } = fp8sim.parts[part];
    const differing = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
    // What need not be escaped in a fragment is not, so that people can read and write addresses.
    const text = new URLSearchParams(differing).toString().replace(/%2C/g, ",").replace(/%3A/g, ":");
    return text ? `${part}?${text}` : part;
  }

  /** Show the parts: a tab for each in `tabs`, a panel in `panels`. */
  function start(tabs, panels) {
    const parts = Object.keys(fp8sim.parts), states = {}, draws = {};
    let shown = null, noted = -Infinity, due = 0; // noted: when the address was last written

    const button = (part) => document.getElementById(`tab-${part}`);
    const panel = (part) => document.getElementById(`panel-${part}`);

    /** Write the state into the address: not too often in a drag, or browsers refuse it, and the last one always. */
    function remember() {
      clearTimeout(due);
      const wait = noted + 200 - performance.now();
      if (wait > 0) return void (due = setTimeout(remember, wait));
      noted = performance.now();
      try {
        history.replaceState(null, "", `#${write(shown, states[shown])}`);
      } catch (problem) {
        if (problem.name !== "SecurityError") throw problem; // in a frame that has no address of its own
      }
    }

    function update(part) {
      draws[part](states[part]);
      if (part === shown) remember();
    }

    function open(part, state = null) {
      if (state || !states[part]) states[part] = { ...fp8sim.parts[part].defaults, ...state };
      shown = part;
      for (const name of parts) {
        button(name).setAttribute("aria-selected", String(name === part));
        button(name).tabIndex = name === part ? 0 : -1;
        panel(name).hidden = name !== part;
      }
      document.title = `${fp8sim.parts[part].title} - fp8sim play`;
      draws[part] ??= fp8sim.parts[part].mount(panel(part), states[part], (some) => {
        states[part] = { ...states[part], ...some };
        update(part);
      });
      update(part);
    }

    function turn(event) {
      const at = parts.indexOf(shown), last = parts.length - 1;
      const to = { ArrowRight: at < last ? at + 1 : 0, ArrowLeft: at ? at - 1 : last, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      open(parts[to]);
      button(parts[to]).focus();
    }

    parts.forEach((part, i) => {
      tabs.append(make("button", {
        type: "button", role: "tab", id: `tab-${part}`, "aria-controls": `panel-${part}`,
        onclick: () => open(part), onkeydown: turn,
      }, make("span", { className: "order", "aria-hidden": "true" }, String(i + 1)), fp8sim.parts[part].title));
      panels.append(make("section", {
        role: "tabpanel", id: `panel-${part}`, "aria-labelledby": `tab-${part}`, hidden: true, className: "part",
      }));
    });
    const follow = () => {
      const address = read(location.hash);
      if (address.part) open(address.part, address.state);
    };
    const { part, state } = read(location.hash).part ? read(location.hash) : read(fp8sim.data.start);
    open(part ?? parts[0], state);
    addEventListener("hashchange", follow);
  }

  fp8sim.page = { make, draw, labelled, select, segments, drag, onWidth, show, short, percent, parse, say, read, write, start };
})();
