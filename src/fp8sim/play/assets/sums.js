/* A dot product as a tensor core sums it: fused steps, chains of them, promotion to FP32; bit for bit.
 *
 * The same steps as fp8sim's reference/fused_step.py, for readers of that. A core is the data of a
 * fp8sim.TensorCore, with its StepRule, put into the page by Python: no number of a core is written here.
 * An operand is {values, emin, scales}: numbers of one format, its least exponent, and, for a core with
 * block scales, the scale of each number. float64 holds every value, and every sum of a step whose law
 * aligns its terms (TensorCore refuses others); where it does not, a sum is a BigInt times a power of two.
 */
fp8sim.sums = (() => {
  "use strict";

  const NOTHING = -10000; // the exponent of what counts for no alignment
  const { fp16, fp32 } = fp8sim.data.formats;
  const { exponentOf, powerOfTwo } = fp8sim.arithmetic;
  const POWERS = Float64Array.from({ length: 2001 }, (_, i) => powerOfTwo(i - 1000)); // looked up much faster

  /** x * 2^n, whatever n: in parts, since 2^n may be no float64 where the product is one. */
  function scaled(x, n) {
    if (x === 0 || !Number.isFinite(x)) return x;
    for (; n > 1000; n -= 1000) x *= POWERS[2000];
    for (; n < -1000 && x !== 0; n += 1000) x *= POWERS[0];
    return x * POWERS[n + 1000];
  }

  /** The exponent of a number as it is stored: at least emin; of what is not finite, and of 0, NOTHING. */
  const exponentFrom = (x, emin) => (x === 0 || !Number.isFinite(x) ? NOTHING : Math.max(exponentOf(x), emin));

  /** The significand of a number of such an exponent; below 2^emin it is below 1. */
  const significandOf = (x, exponent) => (exponent === NOTHING ? x : scaled(x, -exponent));

  const splits = new WeakMap(); // operand -> its numbers taken apart, once

  function split(operand, rule) {
    if (!splits.has(operand)) {
      const apart = (x, emin) => {
        const exponents = new Int32Array(x.length), significands = new Float64Array(x.length);
        x.forEach((value, i) => {
          exponents[i] = exponentFrom(value, emin);
          significands[i] = significandOf(value, exponents[i]);
        });
        return { exponents, significands };
      };
      const scales = operand.scales ? apart(operand.scales, rule.scale_emin) : null;
      splits.set(operand, { ...apart(operand.values, operand.emin), scales });
    }
    return splits.get(operand);
  }

  /**
   * The terms of a step, which starts at k = first: exact products, or the exact sums of `group` of them.
   *
   * @returns {{significands, exponents, size}} size: products in a term; beyond the last k they are 0.
   */
  function products(rule, a, b, first, group) {
    const left = split(a, rule), right = split(b, rule);
    const grouped = Boolean(group && left.scales && right.scales), size = grouped ? group : 1;
    const terms = Math.ceil(rule.step / size), there = Math.min(rule.step, a.values.length - first);
    const significands = new Float64Array(terms), exponents = new Int32Array(terms).fill(2 * NOTHING);
    let factor = 1;
    for (let i = 0; i < there; i++) {
      const k = first + i, term = grouped ? Math.floor(i / size) : i;
      let significand = left.significands[k] * right.significands[k];
      let binade = 0;
      if (left.scales && right.scales) {
        factor = left.scales.significands[k] * right.scales.significands[k];
        binade = left.scales.exponents[k] + right.scales.exponents[k];
        significand = significand * left.scales.significands[k] * right.scales.significands[k];
      }
      if (!grouped) {
        significands[term] = significand;
        exponents[term] = left.exponents[k] + right.exponents[k] + binade;
        continue;
      }
      significands[term] += a.values[k] * b.values[k]; // exact: sums of few small numbers
      // Products that cancel count all the same: the exponent of a group is that of its scales.
      if (significand !== 0) exponents[term] = Math.max(exponents[term], binade);
      if (i % size === size - 1 || i === there - 1) significands[term] *= factor;
    }
    return { significands, exponents, size };
  }

  const largest = (exponents) => exponents.reduce((top, exponent) => Math.max(top, exponent), -Infinity);

  /** Round an exact sum to the output: cut off to FP32, or to the nearest FP16; zero is positive. */
  function rounded(x, rule) {
    if (x === 0 || !Number.isFinite(x)) return x + 0;
    const last = Math.max(exponentOf(x), rule.c_emin) - rule.out_bits;
    const units = scaled(x, -last);
    let whole = Math.trunc(units);
    if (rule.fp16) {
      const rest = Math.abs(units - whole);
      if (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0)) whole += Math.sign(units);
    }
    const y = scaled(whole, last) + 0;
    return Math.abs(y) > (rule.fp16 ? fp16 : fp32).max ? Math.sign(y) * Infinity : y;
  }

  /** NVIDIA's law: terms cut off below the largest exponent, added, and rounded once to the output. */
  function truncatedSum(rule, c, a, b, first) {
    const own = exponentFrom(c, rule.c_emin);
    let terms = products(rule, a, b, first, rule.group);
    let top = Math.max(largest(terms.exponents), own);
    if (rule.subgroup && largest(products(rule, a, b, first, 0).exponents) > own) {
      terms = products(rule, a, b, first, rule.subgroup); // they outrank c, which then counts for no alignment
      top = largest(terms.exponents);
    }
    const last = Math.max(top, rule.floor) - rule.fraction_bits;
    let units = Math.trunc(scaled(significandOf(c, own), own - last)); // whole numbers of 2^last: an exact sum
    terms.significands.forEach((x, i) => (units += Math.trunc(scaled(x, terms.exponents[i] - last))));
    const total = scaled(units, last);
    return { terms, top: last + rule.fraction_bits, last, lasts: [last], total, result: rounded(total, rule) };
  }

  /** CDNA1: the exact sum of products and c, rounded once to the nearest FP32. */
  function exactSum(rule, c, a, b, first) {
    const stop = Math.min(first + rule.step, a.values.length);
    let total = c, exact = true;
    for (let k = first; k < stop && exact; k++) {
      const x = a.values[k] * b.values[k], sum = total + x, part = sum - total;
      exact = total - (sum - part) + (x - part) === 0; // what the sum lost (Knuth's two-sum); NaN beside infinity
      total = sum;
    }
    if (!exact) {
      const sum = new Exact().add(c);
      for (let k = first; k < stop; k++) sum.add(a.values[k] * b.values[k]);
      total = sum.toOdd();
    }
    return { total, result: Math.fround(total === 0 ? 0 : total) };
  }

  /** CDNA2: products and sums of two rounded to the nearest FP32, subnormal numbers made zero. */
  function pairwiseSum(rule, c, a, b, first) {
    const least = powerOfTwo(rule.c_emin);
    const flushed = (x) => (Math.abs(x) < least ? (x < 0 || Object.is(x, -0) ? -0 : 0) : x);
    const read = (x, smallest) => (Math.abs(x) < smallest ? 0 : x);
    const [left, right] = [a, b].map((side) => powerOfTwo(side.emin));
    let sums = Array.from({ length: rule.step }, (_, i) =>
      flushed(Math.fround(read(a.values[first + i] ?? 0, left) * read(b.values[first + i] ?? 0, right))));
    for (let size = rule.group || rule.step; size > 1; size >>= 1) {
      const before = sums;
      sums = Array.from({ length: before.length / 2 }, (_, i) =>
        flushed(Math.fround(before[2 * i] + before[2 * i + 1])));
    }
    const result = sums.reduce((total, x) => flushed(Math.fround(total + x)), read(c, least));
    return { total: result, result };
  }

  /** CDNA3: products cut off; their sum, c, and the sum of both rounded down; the output to nearest. */
  function roundedDownSum(rule, c, a, b, first) {
    const bits = rule.fraction_bits, low = rule.sum_bits + 1;
    const terms = products(rule, a, b, first, 0), { significands, exponents } = terms;
    const parts = rule.step / (rule.group || rule.step), tops = Array(parts).fill(-Infinity);
    significands.forEach((x, i) => {
      if (Math.abs(scaled(x, exponents[i])) >= POWERS[1128]) significands[i] = Math.sign(x) * Infinity; // 2^128
      tops[i % parts] = Math.max(tops[i % parts], exponents[i]);
    });
    const top = Math.max(...tops), sums = Array(parts).fill(0);
    significands.forEach((x, i) => (sums[i % parts] += Math.trunc(scaled(x, exponents[i] - tops[i % parts] + bits))));
    let dot = sums.reduce((sum, x, i) => sum + Math.floor(scaled(x, tops[i] - top)), 0);
    const own = exponentFrom(c, rule.c_emin), joint = Math.max(top, own, rule.floor), last = joint - bits;
    dot = Math.floor(scaled(dot, top - bits - joint + low));
    let carried = Math.floor(scaled(significandOf(c, own), own - last));
    if (rule.group && Number.isFinite(c) && own < last - 1) carried = 0;
    const total = scaled(dot, joint - low) + scaled(carried, last) + 0; // zero is positive
    const place = (total === 0 ? rule.c_emin : exponentFrom(total, rule.c_emin)) - rule.sum_bits;
    const result = Number.isFinite(total) ? Math.fround(scaled(Math.floor(scaled(total, -place)), place)) : total;
    return { terms, top: joint, last, lasts: tops.map((exponent) => exponent - bits), total, result };
  }

  const LAWS = {
    truncated: truncatedSum,
    exact: exactSum,
    pairwise: pairwiseSum,
    "rounded-down": roundedDownSum,
  };

  /**
   * Sum one step: the products of a and b from k = first on, of which there are rule.step, and the accumulator c.
   *
   * @returns {number} the accumulator after it.
   */
  function step(rule, c, a, b, first = 0) {
    return LAWS[rule.law](rule, c, a, b, first).result;
  }

  /**
   * The same step taken apart.
   *
   * @returns {{result, total, top, last, terms, carried}} total: what is rounded to the result; top: the exponent
   *   under which all is aligned; last: that of the last place kept, undefined where none is cut off. The terms,
   *   and c as one, are {significand, exponent, from, to, last}: k that are in it, counted from the step's first.
   */
  function takeApart(rule, c, a, b, first = 0) {
    const found = LAWS[rule.law](rule, c, a, b, first);
    const { significands, exponents, size } = found.terms ?? products(rule, a, b, first, 0);
    const exponent = exponentFrom(c, rule.c_emin), { lasts = [undefined] } = found;
    const terms = Array.from(significands, (significand, i) => ({
      significand, exponent: exponents[i], from: i * size, to: (i + 1) * size - 1, last: lasts[i % lasts.length],
    }));
    const carried = { significand: significandOf(c, exponent), exponent, last: found.last };
    const { result, total, top = Math.max(largest(exponents), exponent, rule.floor), last } = found;
    return { result, total, top, last, terms, carried };
  }

  /**
   * Chain steps over k, from c; start a new chain every `promoteEvery` and add it in FP32, to nearest.
   *
   * @param {function} visit called after each step with {first, last, before, after, total, promoted}:
   *   accumulator before and after it; the sum so far; whether the chain was promoted there.
   */
  function chain(rule, a, b, { c = 0, promoteEvery = 0, visit = null } = {}) {
    const k = a.values.length;
    let total = c;
    let running = promoteEvery ? 0 : c;
    for (let first = 0; first < k; first += rule.step) {
      const before = running;
      running = step(rule, running, a, b, first);
      const after = running;
      const end = first + rule.step;
      const promoted = promoteEvery > 0 && (end >= k || end % promoteEvery === 0);
      if (promoted) {
        total = Math.fround(total + running);
        running = 0;
      }
      const sum = promoteEvery ? Math.fround(total + running) : running;
      if (visit) visit({ first, last: Math.min(end, k) - 1, before, after, total: sum, promoted });
    }
    return promoteEvery ? total : running;
  }

  /** A finite float64 as [n, e]: n * 2^e with a whole number n, a BigInt. */
  function whole(x) {
    const e = exponentOf(x) - 52;
    return [BigInt(scaled(x, -e)), e];
  }

  /** The same with an odd n. */
  function odd(x) {
    let [n, e] = whole(x);
    for (; n % 2n === 0n; n /= 2n) e += 1;
    return [n, e];
  }

  /** An exact sum of float64 numbers: whole * 2^exponent, or what IEEE 754 makes of an infinite one. */
  class Exact {
    constructor() {
      this.whole = 0n;
      this.exponent = 0;
      this.special = 0; // the sum of what is not finite
    }

    add(x) {
      if (!Number.isFinite(x)) this.special += x;
      else if (x !== 0) {
        let [n, e] = whole(x);
        if (e < this.exponent) {
          this.whole <<= BigInt(this.exponent - e);
          this.exponent = e;
        }
        this.whole += n << BigInt(e - this.exponent);
      }
      return this;
    }

    /** In float64, cut off; where that loses something, with an odd last bit: so one more rounding, to
     * FP32, gives what a single rounding of the exact sum would have given. */
    toOdd() {
      if (this.special !== 0) return this.special;
      const negative = this.whole < 0n;
      let n = negative ? -this.whole : this.whole;
      const extra = Math.max(0, n.toString(2).length - 53);
      const lost = extra > 0 && (n & ((1n << BigInt(extra)) - 1n)) !== 0n;
      n >>= BigInt(extra);
      if (lost) n |= 1n;
      const magnitude = scaled(Number(n), this.exponent + extra);
      return negative ? -magnitude : magnitude;
    }
  }

  /** The exact dot product, as a float64 next to it. */
  function exact(a, b, c = 0) {
    const total = new Exact().add(c);
    a.values.forEach((x, i) => {
      const scale = a.scales && b.scales ? a.scales[i] * b.scales[i] : 1;
      total.add(x * b.values[i] * scale);
    });
    return total.toOdd();
  }

  /**
   * The bits of a finite term under 2^top: those down to 2^last, and those after; without a last, all.
   *
   * @returns {{whole, fraction, lost}} strings of 0 and 1 of the magnitude; lost ends with its last 1.
   */
  function bits({ significand, exponent, last }, top) {
    const [n, e] = significand === 0 ? [0n, -exponent] : odd(Math.abs(significand));
    const place = last ?? Math.min(top, e + exponent); // of the last bit that is kept
    const places = top - place;
    const shift = e + exponent - place; // of n, to count in units of that
    const units = shift >= 0 ? n << BigInt(shift) : n >> BigInt(-shift);
    const rest = shift >= 0 ? 0n : n & ((1n << BigInt(-shift)) - 1n);
    const lost = rest === 0n ? "" : rest.toString(2).padStart(-shift, "0").replace(/0+$/, "");
    const text = units.toString(2).padStart(places + 1, "0");
    return { whole: text.slice(0, text.length - places), fraction: text.slice(text.length - places), lost };
  }

  /**
   * The most fraction bits with which the sum of a step stays exact in float64, as TensorCore has it; `most`
   * is the largest number of its formats. 32 products below 4, and c, need 8 bits more than one of them.
   */
  function mostBits(rule, most) {
    if (rule.law !== "truncated") return 52 - Math.ceil(Math.log2(4 * rule.step + 4));
    const term = (rule.group ? rule.group * most ** 2 : 4) * (rule.scale_block ? 4 : 1);
    const size = (Math.floor(rule.step / Math.max(1, rule.group)) + 1) * term;
    return 52 - Math.ceil(Math.log2(size));
  }

  /**
   * Random numbers that repeat: whole numbers below 2^32 from a seed, by xorshift (Marsaglia, "Xorshift
   * RNGs", Journal of Statistical Software 8, 2003, the shifts 13, 17 and 5).
   */
  function generator(seed) {
    const state = Uint32Array.of(Math.imul(seed + 1, 0x9e3779b1) || 1); // spread small seeds; zero would stay zero
    return () => {
      state[0] ^= state[0] << 13;
      state[0] ^= state[0] >>> 17;
      state[0] ^= state[0] << 5;
      return state[0];
    };
  }

  /** k numbers: evenly spread from 0 to 1, or of both signs, nearly normal (a sum of twelve such, less 6). */
  function draw(next, k, positive) {
    const one = () => next() / 2 ** 32;
    const numbers = new Array(k);
    for (let i = 0; i < k; i++) {
      let x = one();
      if (!positive) {
        for (let j = 1; j < 12; j++) x += one();
        x -= 6;
      }
      numbers[i] = x;
    }
    return numbers;
  }

  /**
   * Round numbers to a format; where they share scales, each `block` of them under its own: the least value of
   * the scales' format under which nothing saturates. `round` is that of arithmetic.js.
   */
  function operand(numbers, fmt, block, scaleFormat, round) {
    if (!scaleFormat) return { values: numbers.map((x) => round(x, fmt)), emin: fmt.emin };
    const scales = [];
    for (let first = 0; first < numbers.length; first += block) {
      const part = numbers.slice(first, first + block);
      const most = part.reduce((size, x) => Math.max(size, Math.abs(x)), 0);
      const scale = round(most / fmt.max, scaleFormat, "toward-positive");
      part.forEach(() => scales.push(scale));
    }
    return { values: numbers.map((x, i) => round(x / scales[i], fmt)), emin: fmt.emin, scales };
  }

  return { step, takeApart, chain, exact, bits, generator, draw, operand, mostBits, scaled };
})();
