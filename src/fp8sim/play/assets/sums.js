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
  const FP32_MAX = (2 - 2 ** -23) * 2 ** 127;
  const FP16_MAX = 65504;
  const { exponentOf } = fp8sim.arithmetic;

  /** x * 2^n, whatever n: in parts, since 2^n may be no float64 where the product is one. */
  function scaled(x, n) {
    if (x === 0 || !Number.isFinite(x)) return x;
    for (; n > 1000; n -= 1000) x *= 2 ** 1000;
    for (; n < -1000 && x !== 0; n += 1000) x *= 2 ** -1000;
    return x * 2 ** n;
  }

  /** Significand and exponent as stored: below 2^emin the significand is below 1. */
  function split(x, emin) {
    if (x === 0 || !Number.isFinite(x)) return [x, NOTHING];
    const exponent = Math.max(exponentOf(x), emin);
    return [scaled(x, -exponent), exponent];
  }

  /** The part of an operand that one step takes, zeros beyond the end. */
  function part(operand, first, count) {
    const take = (x) => Array.from({ length: count }, (_, i) => x[first + i] ?? 0);
    return { ...operand, values: take(operand.values), scales: operand.scales && take(operand.scales) };
  }

  /** Exact products of a step as terms {significand, exponent, from, to}; of `group` of them, if not 0. */
  function products(rule, a, b, group = rule.group) {
    const terms = a.values.map((x, i) => {
      const [x1, e1] = split(x, a.emin);
      const [x2, e2] = split(b.values[i], b.emin);
      const term = { significand: x1 * x2, exponent: e1 + e2, from: i, to: i };
      if (!a.scales || !b.scales) return term;
      const [s1, f1] = split(a.scales[i], rule.scale_emin);
      const [s2, f2] = split(b.scales[i], rule.scale_emin);
      term.significand *= s1;
      term.significand *= s2;
      term.exponent += f1 + f2;
      return { ...term, factor: s1 * s2, binade: f1 + f2 };
    });
    if (!group || !a.scales || !b.scales) return terms;
    const groups = [];
    for (let first = 0; first < terms.length; first += group) {
      const members = terms.slice(first, first + group);
      let sum = 0; // exact: sums of few small numbers
      for (let i = first; i < first + members.length; i++) sum += a.values[i] * b.values[i];
      // Products that cancel count all the same: the exponent of a group is that of its scales.
      const binades = members.map((term) => (term.significand === 0 ? 2 * NOTHING : term.binade));
      groups.push({
        significand: sum * members[0].factor,
        exponent: Math.max(...binades),
        from: first,
        to: first + members.length - 1,
      });
    }
    return groups;
  }

  const largest = (terms) => terms.reduce((top, term) => Math.max(top, term.exponent), -Infinity);

  /** Cut terms and the accumulator off below 2^top, each to whole numbers of 2^last, and add them. */
  function align(rule, terms, c, top) {
    const last = Math.max(top, rule.floor) - rule.fraction_bits;
    const [significand, exponent] = split(c, rule.c_emin);
    const carried = { significand, exponent };
    let units = 0;
    for (const term of [...terms, carried]) {
      term.last = last;
      units += Math.trunc(scaled(term.significand, term.exponent - last));
    }
    return { terms, carried, top: last + rule.fraction_bits, last, total: scaled(units, last) };
  }

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
    return Math.abs(y) > (rule.fp16 ? FP16_MAX : FP32_MAX) ? Math.sign(y) * Infinity : y;
  }

  /** NVIDIA's law: terms cut off below the largest exponent, added, and rounded once to the output. */
  function truncatedSum(rule, c, a, b) {
    let terms = products(rule, a, b);
    const own = split(c, rule.c_emin)[1];
    let top = Math.max(largest(terms), own);
    if (rule.subgroup && largest(products(rule, a, b, 0)) > own) {
      terms = products(rule, a, b, rule.subgroup); // products outrank c, which then counts for no alignment
      top = largest(terms);
    }
    const step = align(rule, terms, c, top);
    return { ...step, result: rounded(step.total, rule) };
  }

  /** The terms of a step of which none is cut off. */
  function uncut(rule, c, a, b) {
    const terms = products(rule, a, b, 0);
    const [significand, exponent] = split(c, rule.c_emin);
    return { terms, carried: { significand, exponent }, top: Math.max(largest(terms), exponent, rule.floor) };
  }

  /** CDNA1: the exact sum of products and c, rounded once to the nearest FP32. */
  function exactSum(rule, c, a, b) {
    const total = new Exact().add(c);
    a.values.forEach((x, i) => total.add(x * b.values[i]));
    return { ...uncut(rule, c, a, b), total: total.toOdd(), result: Math.fround(total.toOdd()) };
  }

  /** CDNA2: products and sums of two rounded to the nearest FP32, subnormal numbers made zero. */
  function pairwiseSum(rule, c, a, b) {
    const flushed = (x) => (Math.abs(x) < 2 ** rule.c_emin ? (x < 0 || Object.is(x, -0) ? -0 : 0) : x);
    const read = (x, emin) => (Math.abs(x) < 2 ** emin ? 0 : x);
    let sums = a.values.map((x, i) => flushed(Math.fround(read(x, a.emin) * read(b.values[i], b.emin))));
    for (let size = rule.group || rule.step; size > 1; size >>= 1) {
      sums = sums.filter((_, i) => i % 2 === 0).map((x, i) => flushed(Math.fround(x + sums[2 * i + 1])));
    }
    const result = sums.reduce((total, x) => flushed(Math.fround(total + x)), read(c, rule.c_emin));
    return { ...uncut(rule, c, a, b), total: result, result };
  }

  /** CDNA3: products cut off; their sum, c, and the sum of both rounded down; the output to nearest. */
  function roundedDownSum(rule, c, a, b) {
    const bits = rule.fraction_bits;
    const low = rule.sum_bits + 1;
    const { terms, carried: start, top: joint } = uncut(rule, c, a, b);
    for (const term of terms) {
      const size = Math.abs(scaled(term.significand, term.exponent));
      if (size >= 2 ** 128) term.significand = Math.sign(term.significand) * Infinity;
    }
    const parts = rule.step / (rule.group || rule.step);
    const own = Array.from({ length: parts }, (_, i) => terms.filter((_, at) => at % parts === i));
    const tops = own.map(largest);
    const top = Math.max(...tops);
    let dot = 0;
    own.forEach((members, i) => {
      let sum = 0;
      for (const term of members) {
        term.last = tops[i] - bits;
        sum += Math.trunc(scaled(term.significand, term.exponent - term.last));
      }
      dot += Math.floor(scaled(sum, tops[i] - top));
    });
    dot = Math.floor(scaled(dot, top - bits - joint + low));
    start.last = joint - bits;
    let carried = Math.floor(scaled(start.significand, start.exponent - start.last));
    if (rule.group && Number.isFinite(c) && start.exponent < start.last - 1) carried = 0;
    const total = scaled(dot, joint - low) + scaled(carried, joint - bits) + 0; // zero is positive
    const place = (Number.isFinite(total) && total !== 0 ? Math.max(exponentOf(total), rule.c_emin) : rule.c_emin)
      - rule.sum_bits;
    const result = Math.fround(scaled(Math.floor(scaled(total, -place)), place));
    return { terms, carried: start, top: joint, last: start.last, total, result };
  }

  const LAWS = {
    truncated: truncatedSum,
    exact: exactSum,
    pairwise: pairwiseSum,
    "rounded-down": roundedDownSum,
  };

  /**
   * Sum one step: the products of a.values and b.values, of which there are rule.step, and the accumulator c.
   *
   * @returns {{result, terms, carried, top, last, total}} terms, and c as one, are {significand, exponent,
   *   from, to, last}: numbers of products, and the exponent of the last place kept, if it is cut off; top:
   *   the exponent under which all are aligned; total: what is then rounded to the result.
   */
  function step(rule, c, a, b) {
    return LAWS[rule.law](rule, c, a, b);
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
      running = step(rule, running, part(a, first, rule.step), part(b, first, rule.step)).result;
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
    let x = (Math.imul(seed + 1, 0x9e3779b1) >>> 0) || 1; // spread small seeds; zero would stay zero
    return () => {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      return x >>> 0;
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
    const scales = numbers.map((_, i) => {
      const first = i - (i % block);
      const most = numbers.slice(first, first + block).reduce((size, x) => Math.max(size, Math.abs(x)), 0);
      return round(most / fmt.max, scaleFormat, "toward-positive");
    });
    return { values: numbers.map((x, i) => round(x / scales[i], fmt)), emin: fmt.emin, scales };
  }

  return { step, chain, part, exact, bits, generator, draw, operand, mostBits, scaled };
})();
