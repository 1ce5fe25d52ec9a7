/** How other joints follow one that moves (posecov/following.py). */

/** What h explains of all joints by a scatter (2J, 2J): the slope (2, 2) of each, and its multiple correlation in [0, 1]. */
export function following(scatter: Float64Array, joint: number): { gains: number[][]; correlations: number[] } {
  const n = Math.sqrt(scatter.length);
  const h = 2 * joint;
  const [a, b, c] = [scatter[h * n + h], scatter[h * n + h + 1], scatter[(h + 1) * n + h + 1]];
  const det = a * c - b * b;
  const gains: number[][] = [];
  const correlations: number[] = [];
  for (let row = 0; row < n; row += 2) {
    const s = [scatter[row * n + h], scatter[row * n + h + 1], scatter[(row + 1) * n + h], scatter[(row + 1) * n + h + 1]];
    const g = [
      (s[0] * c - s[1] * b) / det, (s[1] * a - s[0] * b) / det,
      (s[2] * c - s[3] * b) / det, (s[3] * a - s[2] * b) / det,
    ];
    const whole = scatter[row * n + row] + scatter[(row + 1) * n + row + 1];
    const share = whole > 0 ? (g[0] * s[0] + g[1] * s[1] + g[2] * s[2] + g[3] * s[3]) / whole : 0;
    gains.push(g);
    correlations.push(Math.sqrt(Math.min(Math.max(share, 0), 1)));
  }
  return { gains, correlations };
}
