/* A ruler of real numbers: a lane for each format, whose coloured bins show which reals become which value. */
(() => {
  "use strict";

  const { make, draw, drag, onWidth, short, show } = fp8sim.page;
  const { codeOf, decode, exponentOf, powerOfTwo, round, stepAt } = fp8sim.arithmetic;
  const { title } = fp8sim.words;
  const { formats } = fp8sim.data;

  const TOP = 48, LANE = 64, BAND = 28; // pixels: above the lanes, of a lane, and of its coloured part
  const DENSE = 2.5; // pixels: bins narrower than this are drawn as one

  /** How a rounding looks on magnitudes of one sign: to the nearest, "out" from zero, or "in" to it. */
  function sense(rounding, negative) {
    if (rounding.startsWith("nearest") || rounding === "stochastic") return "nearest";
    if (rounding === "toward-zero") return "in";
    return (rounding === "toward-positive") !== negative ? "out" : "in";
  }

  /** Where magnitudes between two neighbours turn from the lower one to the upper one. */
  const turn = (lower, upper, way) => ({ nearest: (lower + upper) / 2, in: upper, out: lower })[way];

  /**
   * The bins of one sign between two magnitudes: [{from, to, value, code}], values far closer than `least` as
   * one {from, to, step}.
   */
  function bins(fmt, way, low, high, least) {
    const found = [], flushes = fmt.zero && !fmt.subnormals, first = 2 ** fmt.mantissa_bits;
    const after = (code) => (flushes && code === 0 ? first : code + 1);
    const value = (code) => (code > fmt.top_code ? fmt.max + stepAt(fmt.max, fmt) : decode(code, fmt));
    // Between zero and the first normal number without subnormals, rounding turns where it would with them.
    const lower = (code) => (flushes && code === 0 ? fmt.smallest_normal - stepAt(0, fmt) : value(code));
    const start = round(Math.min(Math.max(low, 0), fmt.max), fmt, "toward-zero", "saturate");
    let code = Math.max(codeOf(Number.isNaN(start) ? fmt.smallest_normal : start, fmt) - 1, 0);
    if (flushes && code < first) code = 0;
    let from = code === 0 ? 0 : turn(lower(code - 1), value(code), way);
    while (code <= fmt.top_code && from < high) {
      const step = stepAt(value(code), fmt);
      if (step < least && code > 0 && !(flushes && code < first)) { // all of the binade is as fine
        const end = Math.min(powerOfTwo(exponentOf(Math.max(value(code), fmt.smallest_normal)) + 1), fmt.max);
        if (end > value(code)) {
          found.push({ from, to: Math.min(end, high), step });
          code = codeOf(end, fmt);
          from = end;
          if (code < fmt.top_code) continue;
        }
      }
      const to = turn(lower(code), value(after(code)), way);
      found.push({ from, to, value: value(code), code, next: value(after(code)) });
      from = to;
      code = after(code);
    }
    return found.filter((bin) => bin.to > low && bin.from < high);
  }

  /** Round steps of an axis: 1, 2 or 5 times a power of ten. */
  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high && found.length < 50; n++) {
      found.push(Number((n * step).toPrecision(12)));
    }
    return found;
  }

  function axis(at, { low, high }, width, x) {
    const group = draw("g", { "aria-hidden": "true", class: "axis" });
    for (const value of ticks(low, high, Math.max(width / 105, 2))) {
      const px = at(value);
      group.append(draw("line", { x1: px, x2: px, y1: 41, y2: TOP, class: "tick" }));
      if (Math.abs(px - at(x)) < 4 + 3.7 * short(value, 8).length) continue; // the number's own line goes there
      const anchor = px < 30 ? "start" : px > width - 30 ? "end" : "middle";
      group.append(draw("text", { x: px, y: 37, "text-anchor": anchor, class: "muted" }, short(value, 8)));
    }
    group.append(draw("line", { x1: 0, x2: width, y1: TOP, y2: TOP, class: "tick" }));
    return group;
  }

  /** One lane: a format's bins and values, and the way from the number to what it becomes. */
  function lane({ name, x, value, rounding, overflow, view, width, at, y }) {
    const fmt = formats[name], band = y + 18, middle = band + BAND / 2;
    const group = draw("g", { "aria-hidden": "true" });
    const rectangle = (from, to, kind) => {
      const [a, b] = [at(from), at(to)].sort((p, q) => p - q).map((p) => Math.min(Math.max(p, 0), width));
      if (b > a) group.append(draw("rect", { x: a, y: band, width: b - a, height: BAND, class: kind }));
      return [a, b];
    };
    const nearest = rounding.startsWith("nearest"), chance = rounding === "stochastic";
    rectangle(view.low, view.high, "nothing");
    const labels = [], dots = [], ties = [], fades = [];
    for (const sign of fmt.signed ? [1, -1] : [1]) {
      const way = sense(rounding, sign < 0);
      const [low, high] = sign > 0 ? [view.low, view.high] : [-view.high, -view.low];
      if (high <= 0) continue;
      const all = bins(fmt, way, low, high, (DENSE / width) * (view.high - view.low));
      for (const bin of all) {
        if (bin.step) {
          const [a, b] = rectangle(sign * bin.from, sign * bin.to, "dense");
          labels.push({ at: (a + b) / 2, text: `${short(bin.step, 3)} apart`, room: b - a });
          continue;
        }
        const v = sign * bin.value, here = v === value;
        const even = bin.code % 2 === 0;
        const [a, b] = rectangle(sign * bin.from, sign * bin.to, chance ? "nothing" : here ? "here" : even ? "even" : "odd");
        if (chance && bin.code < fmt.top_code) fades.push([v, sign * bin.next, even === sign > 0]);
        dots.push({ at: at(v), here, text: short(v, 8), room: b - a });
        if (nearest && b - a > 18 && bin.code < fmt.top_code) {
          const up = Math.abs(round(sign * bin.to, fmt, rounding, "saturate")) > bin.value;
          ties.push({ at: at(sign * bin.to), right: up === sign > 0 });
        }
      }
      beyond(way, sign);
    }
    if (!fmt.signed) nowhere(-Infinity, 0);

    /** Between two values under stochastic rounding: the nearer to one, the more often it is that one. */
    function fade(from, to, evenFirst) {
      const [a, b] = [at(from), at(to)].sort((p, q) => p - q);
      if (b > a) group.append(draw("rect", { x: a, y: band, width: b - a, height: BAND, class: evenFirst ? "fade" : "fade back" }));
    }

    /** What is beyond the largest value. */
    function beyond(way, sign) {
      const from = way === "in" ? fmt.max : turn(fmt.max, fmt.max + stepAt(fmt.max, fmt), way);
      const to = sign > 0 ? view.high : -view.low;
      if (!(to > from)) return;
      const result = round(sign * 4 * fmt.max, fmt, rounding, overflow);
      const [a, b] = rectangle(sign * from, sign * to, Object.is(result, value) && Math.sign(x) === sign ? "beyond here" : "beyond");
      const words = result === null ? "refused" : Number.isFinite(result) ? `all become ${show(result)}` : show(result);
      // Beside the arrow, where the number is in here.
      const [start, end] = Number.isFinite(x) && at(x) > a && at(x) < b ? (sign > 0 ? [at(x), b] : [a, at(x)]) : [a, b];
      labels.push({ at: (start + end) / 2, text: words, room: end - start });
    }

    function nowhere(low, high) {
      const [a, b] = rectangle(Math.max(low, view.low), Math.min(high, view.high), "beyond");
      if (b > a && at(0) > a) labels.push({ at: (a + b) / 2, text: "no code: NaN", room: b - a });
    }

    fades.forEach((one) => fade(...one)); // over the bins, which they span
    for (const label of labels) {
      if (label.room > 6.6 * label.text.length) {
        group.append(draw("text", { x: label.at, y: middle + 4, "text-anchor": "middle", class: "in-band" }, label.text));
      }
    }
    for (const dot of dots) {
      if (dot.at < -6 || dot.at > width + 6) continue;
      group.append(draw("circle", { cx: dot.at, cy: middle, r: dot.here ? 6 : dot.room > 9 ? 3.2 : 1.3, class: dot.here ? "value here" : "value" }));
    }
    for (const tie of ties) {
      const tip = tie.right ? 5 : -5;
      group.append(draw("path", { d: `M${tie.at - tip / 2} ${band + BAND - 9}v8l${tip} -4z`, class: "tie" }));
    }
    let last = -Infinity;
    const chosen = dots.find((dot) => dot.here);
    for (const dot of [...dots].sort((p, q) => p.at - q.at)) {
      const half = 3.4 * dot.text.length;
      const crowds = chosen && dot !== chosen && Math.abs(dot.at - chosen.at) < half + 3.4 * chosen.text.length + 8;
      if (crowds || (dot !== chosen && dot.room < 18) || dot.at - half < Math.max(last, 0) || dot.at + half > width) continue;
      group.append(draw("text", { x: dot.at, y: band + BAND + 12, "text-anchor": "middle", class: dot.here ? "under here" : "under" }, dot.text));
      last = dot.at + half + 8;
    }
    if (Number.isFinite(x) && Number.isFinite(value ?? NaN)) {
      const { lower, upper } = fp8sim.arithmetic.neighbours(x, fmt);
      const other = chance && lower !== null && upper !== null && lower !== upper ? (value === lower ? upper : lower) : null;
      const [here, there] = [x, value].map((v) => Math.min(Math.max(at(v), -7), width + 7));
      if (other !== null) group.append(arrow(here, at(other), middle, "arrow other"));
      group.append(arrow(here, there, middle, "arrow"));
    }
    group.append(draw("text", { x: 0, y: y + 13, class: "format-name" }, title(name)));
    return group;
  }

  /** From the number to its value; none where it is too short to see. */
  function arrow(a, b, y, kind) {
    const way = Math.sign(b - a), tip = Math.abs(b - a) > 12 ? b - 7 * way : b;
    if (Math.abs(b - a) < 4) return draw("g");
    return draw("path", { d: `M${a} ${y}H${tip}m${-6 * way} -5l${6 * way} 5l${-6 * way} 5`, class: kind });
  }

  /** Part of the line that is shown first: eight steps of a format around a number, on multiples of them. */
  function fit(x, fmt) {
    if (!Number.isFinite(x)) return { low: -1.1 * fmt.max * (fmt.signed ? 1 : 0), high: 1.1 * fmt.max };
    const magnitude = Math.min(Math.abs(x), fmt.max), step = Math.max(stepAt(magnitude, fmt), stepAt(fmt.smallest_normal, fmt));
    const low = (Math.floor(Math.abs(x) / (4 * step)) * 4 - 2) * step;
    let [near, far] = [low, low + 8 * step];
    if (Math.abs(x) > fmt.max) [near, far] = [fmt.max - 3 * step, Math.max(Math.abs(x) + 2 * step, fmt.max + 5 * step)];
    return x < 0 ? { low: -far, high: -near } : { low: near, high: far };
  }

  /** A number in few digits, to the resolution of the ruler; on a tie or a value if one is near enough. */
  function settle(value, view, width, fmt, rounding) {
    const pixel = (view.high - view.low) / width;
    const digits = Math.floor(Math.log10(pixel));
    const plain = Number(value.toFixed(Math.min(Math.max(-digits, 0), 100)));
    const coarse = digits > 0 ? Math.round(value / 10 ** digits) * 10 ** digits : plain;
    if (fmt.max < Math.abs(value)) return coarse;
    const { lower, upper, turn: middle } = fp8sim.arithmetic.neighbours(value, fmt);
    const near = [middle, lower, upper].find((v) => v !== null && Math.abs(v - value) < 3.5 * pixel);
    return near === undefined || stepAt(Math.abs(value), fmt) < 16 * pixel ? coarse : near;
  }

  /** What fills the way from one value to the next under stochastic rounding. */
  function gradients() {
    const stops = (kinds) => kinds.map((kind, i) => draw("stop", { offset: i, class: `stop-${kind}` }));
    return draw("defs", {}, draw("linearGradient", { id: "fade" }, ...stops(["even", "odd"])),
      draw("linearGradient", { id: "fade-back" }, ...stops(["odd", "even"])));
  }

  /**
   * The ruler: {element, update(now)}.
   *
   * @param choose called with a number that was dragged to, or with null and the part of the line to be shown.
   */
  fp8sim.ruler = (choose) => {
    const back = draw("g"); // redrawn; the handle stays, and with it the focus
    const handle = draw("g", { role: "slider", tabindex: "0", class: "handle", "aria-label": "Number on the ruler" });
    const svg = draw("svg", { role: "group", "aria-label": "Ruler", class: "ruler" }, gradients(), back, handle);
    const zooms = [["Zoom out", 2], ["Zoom in", 0.5]].map(([text, factor]) =>
      make("button", { type: "button", className: "plain", onclick: () => zoom(factor) }, text));
    const whole = make("button", { type: "button", className: "plain", onclick: () => wholeRange() }, "Whole range");
    const close = make("button", { type: "button", className: "plain", onclick: () => choose(null, null) }, "Around the number");
    const legend = make("span", { className: "legend" });
    const tools = make("div", { className: "tools" }, ...zooms, whole, close,
      legend);
    const element = make("figure", { className: "ruler-box" }, svg, tools);
    let now = null, view = null, key = "", held = null, pinch = null;

    const width = () => Math.max(svg.clientWidth, 280);
    const at = (value) => ((value - view.low) / (view.high - view.low)) * width();
    const from = (event) => {
      const px = event.clientX - svg.getBoundingClientRect().left;
      return view.low + (px / width()) * (view.high - view.low);
    };
    const send = (low, high) => {
      const span = high - low, fmt = formats[now.lanes[0]];
      if (!(span > powerOfTwo(-160) && span < powerOfTwo(131))) return;
      const digits = (v) => Number(v.toPrecision(Math.max(4, Math.ceil(Math.log10(Math.abs(v) / span + 1)) + 4)));
      choose(null, { low: digits(low), high: digits(high), fmt });
    };

    function zoom(factor, around = null) {
      const middle = around ?? (now.x > view.low && now.x < view.high ? now.x : (view.low + view.high) / 2);
      send(middle + (view.low - middle) * factor, middle + (view.high - middle) * factor);
    }

    function wholeRange() {
      const { max, signed } = formats[now.lanes[0]];
      send(signed ? -1.12 * max : -0.05 * max, 1.12 * max);
    }

    function press(event) {
      const fmt = formats[now.lanes[0]], step = (view.high - view.low) / 100;
      const x = Number.isFinite(now.x) ? now.x : 0;
      const steps = { ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step }[event.key];
      const jump = { PageUp: 1, PageDown: -1 }[event.key];
      if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 0.5 : 2);
      else if (steps) choose(settle(x + steps, { low: 0, high: step }, 1, fmt));
      else if (jump) choose(fp8sim.arithmetic.nextValue(x, jump, fmt) ?? x);
      else if (event.key === "Home" || event.key === "End") choose(settle(event.key === "Home" ? view.low : view.high, view, width(), fmt));
      else return;
      event.preventDefault();
    }
    handle.addEventListener("keydown", press);

    drag(svg, {
      start: (event) => {
        const y = event.clientY - svg.getBoundingClientRect().top;
        const grips = Math.abs(at(now.x) - (event.clientX - svg.getBoundingClientRect().left)) < 28;
        held = y < TOP && !(y < 26 && grips) ? { pan: from(event), view } : { pan: null };
      },
      move: (event) => {
        if (pinch) return;
        if (held.pan !== null) {
          const moved = held.pan - (held.view.low + ((event.clientX - svg.getBoundingClientRect().left) / width()) * (held.view.high - held.view.low));
          send(held.view.low + moved, held.view.high + moved);
          return;
        }
        const span = view.high - view.low, to = Math.min(Math.max(from(event), view.low), view.high);
        choose(settle(to, view, width(), formats[now.lanes[0]]));
        if (to <= view.low + 0.01 * span) send(view.low - 0.03 * span, view.high - 0.03 * span);
        if (to >= view.high - 0.01 * span) send(view.low + 0.03 * span, view.high + 0.03 * span);
      },
      end: () => (held = null),
    });

    // Two fingers: what was under each stays under it.
    const fingers = new Map();
    svg.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, event.clientX);
      if (fingers.size === 2) pinch = { view, at: [...fingers.values()] };
    });
    svg.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      fingers.set(event.pointerId, event.clientX);
      if (!pinch || fingers.size !== 2) return;
      const left = svg.getBoundingClientRect().left, [p, q] = [...fingers.values()].map((px) => (px - left) / width());
      const [a, b] = pinch.at.map((px) => pinch.view.low + ((px - left) / width()) * (pinch.view.high - pinch.view.low));
      if (Math.abs(p - q) < 0.02) return;
      const span = (b - a) / (q - p);
      if (span > 0) send(a - p * span, a + (1 - p) * span);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      svg.addEventListener(name, (event) => {
        fingers.delete(event.pointerId);
        if (!fingers.size) pinch = null;
      });
    }
    svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      const span = view.high - view.low, side = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      if (side) send(view.low + (span * (event.deltaX || event.deltaY)) / 1000, view.high + (span * (event.deltaX || event.deltaY)) / 1000);
      else zoom(1.0015 ** event.deltaY, from(event));
    }, { passive: false });

    function update(next) {
      const fmt = formats[next.lanes[0]];
      const outside = Number.isFinite(next.x) && view && !(next.x >= view.low && next.x <= view.high);
      if (next.view) view = next.view;
      else if (!view || key !== next.lanes[0] || now?.view || (!held && crowded(next, fmt)) || outside) view = fit(next.x, fmt);
      key = next.lanes[0];
      now = next;
      legend.textContent = `${now.rounding === "stochastic" ? "Between two values: the nearer one, the more often."
        : "Each coloured bin is one value; \u25b8 where a tie goes."} Drag the number; drag the scale to move along.`;
      paint();
    }

    /** Whether the part of the line that is shown no longer suits a number that was typed. */
    function crowded({ x }, fmt) {
      if (!Number.isFinite(x)) return false;
      const place = (x - view.low) / (view.high - view.low), steps = (view.high - view.low) / stepAt(Math.min(Math.abs(x), fmt.max), fmt);
      return place < 0.04 || place > 0.96 || steps < 2 || steps > 70;
    }

    function paint() {
      if (!now) return;
      const w = width(), height = TOP + LANE * now.lanes.length + 4;
      svg.setAttribute("viewBox", `0 0 ${w} ${height}`);
      svg.setAttribute("height", height);
      const parts = now.lanes.map((name, i) => lane({
        ...now, name, value: now.values[i], overflow: now.overflows[i], view, width: w, at, y: TOP + 4 + LANE * i,
      }));
      back.replaceChildren(axis(at, view, w, now.x), ...parts);
      paintHandle(w, height);
    }

    function paintHandle(w, height) {
      const shown = Number.isFinite(now.x), px = shown ? Math.min(Math.max(at(now.x), 0), w) : w / 2;
      const text = short(now.x, 9), half = Math.max(4.2 * text.length + 8, 18), middle = Math.min(Math.max(px, half), w - half);
      handle.replaceChildren(
        ...(shown ? [draw("line", { x1: px, x2: px, y1: 22, y2: height, class: "stem" })] : []),
        draw("rect", { x: middle - half, y: 0, width: 2 * half, height: 24, rx: 6, class: "grip" }),
        draw("text", { x: middle, y: 16.5, "text-anchor": "middle", class: "held" }, text),
      );
      handle.setAttribute("aria-valuemin", short(view.low));
      handle.setAttribute("aria-valuemax", short(view.high));
      handle.setAttribute("aria-valuenow", shown ? show(now.x) : "0");
      handle.setAttribute("aria-valuetext", `${show(now.x)}: ${now.words}`);
    }

    onWidth(element, paint);
    return { element, update };
  };
})();
