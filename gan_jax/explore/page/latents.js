// The arithmetic of latents, flat arrays of numbers.

/** The point, moved along unit directions by so many standard deviations of each. */
export function moved(point, directions, deviations, amounts) {
  const result = Float32Array.from(point);
  amounts.forEach((amount, k) => {
    if (amount === 0) return;
    for (let i = 0; i < result.length; i++) result[i] += amount * deviations[k] * directions[k][i];
  });
  return result;
}

/** The latent with another code: a one for each chosen category, numbers as they are given. */
export function coded(latent, categories, chosen, numbers, values) {
  const result = Float32Array.from(latent);
  categories.forEach(([start, size], part) => {
    if (chosen[part] === null) return;
    for (let i = 0; i < size; i++) result[start + i] = i === chosen[part] ? 1 : 0;
  });
  numbers.forEach((place, i) => {
    if (values[i] !== null) result[place] = values[i];
  });
  return result;
}

/** w pulled to its mean: mean + psi (w - mean). */
export function truncated(w, mean, psi) {
  return Float32Array.from(w, (value, i) => mean[i] + psi * (value - mean[i]));
}

/** The point at t of 0 to 1 on the line between two. */
export function linear(a, b, t) {
  return Float32Array.from(a, (value, i) => (1 - t) * value + t * b[i]);
}

/** The point at t of 0 to 1 on the great arc between two; on the line where they have one direction (Shoemake, 1985). */
export function spherical(a, b, t) {
  let product = 0;
  let squaredA = 0;
  let squaredB = 0;
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    squaredA += a[i] * a[i];
    squaredB += b[i] * b[i];
  }
  const norms = Math.sqrt(squaredA * squaredB);
  const angle = norms > 0 ? Math.acos(Math.min(1, Math.max(-1, product / norms))) : 0;
  if (Math.sin(angle) < 1e-6) return linear(a, b, t);
  const fromA = Math.sin((1 - t) * angle) / Math.sin(angle);
  const fromB = Math.sin(t * angle) / Math.sin(angle);
  return Float32Array.from(a, (value, i) => fromA * value + fromB * b[i]);
}

/** Rows one after the other in one array. */
export function joined(rows) {
  const result = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let place = 0;
  for (const row of rows) {
    result.set(row, place);
    place += row.length;
  }
  return result;
}

/** An array cut into rows. */
export function rowsOf(values, count) {
  const size = values.length / count;
  return Array.from({ length: count }, (_, i) => values.subarray(i * size, (i + 1) * size));
}
