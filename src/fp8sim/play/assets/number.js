/* Part 1, a number: what it becomes in a format, and why. */
(() => {
  "use strict";

  const { make, labelled, show, parse } = fp8sim.page;
  const { encode, round } = fp8sim.arithmetic;
  const { formats } = fp8sim.data;

  fp8sim.parts.number = {
    title: "A number",
    defaults: { value: "0.3", format: "e4m3,e5m2,bf16", rounding: "nearest-even", overflow: "default" },
    mount(root, state, change) {
      const input = make("input", { type: "text", oninput: () => change({ value: input.value }) });
      const lines = make("ul");
      root.append(labelled("Number", input), lines);
      return (now) => {
        if (input.value !== now.value) input.value = now.value;
        const x = parse(now.value);
        lines.replaceChildren(...now.format.split(",").filter((name) => name in formats).map((name) =>
          make("li", {}, x === null ? "no number" : `${name}: ${show(round(x, name, now.rounding))} ${encode(x, name)}`)));
      };
    },
  };
})();
