/** Small dense matrices, row by row in a Float64Array. */

/** Lower factor L of a symmetric positive definite matrix (n, n); its upper half is 0. */
export function cholesky(matrix: Float64Array, n: number): Float64Array {
  const root = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j];
      for (let k = 0; k < j; k++) sum -= root[i * n + k] * root[j * n + k];
      if (i !== j) root[i * n + j] = sum / root[j * n + j];
      else if (sum > 0) root[i * n + i] = Math.sqrt(sum);
      else throw new RangeError("a covariance is not positive definite");
    }
  }
  return root;
}

/** L^-1 B for a lower triangular L (n, n) and B (n, columns). */
export function solveLower(root: Float64Array, n: number, right: Float64Array, columns: number): Float64Array {
  const found = right.slice();
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) {
      const factor = root[i * n + k];
      for (let c = 0; c < columns; c++) found[i * columns + c] -= factor * found[k * columns + c];
    }
    for (let c = 0; c < columns; c++) found[i * columns + c] /= root[i * n + i];
  }
  return found;
}

/** Rows and columns of a matrix (n, n), in the order given. */
export function block(matrix: Float64Array, n: number, rows: readonly number[], columns: readonly number[]): Float64Array {
  const found = new Float64Array(rows.length * columns.length);
  rows.forEach((row, i) => columns.forEach((column, j) => (found[i * columns.length + j] = matrix[row * n + column])));
  return found;
}

/** Variances, the larger first, and the angle atan2(y, x) of the first axis in (-pi/2, pi/2] of a symmetric (2, 2). */
export function axes2(matrix: ArrayLike<number>): { major: number; minor: number; angle: number } {
  const [a, b, c] = [matrix[0], (matrix[1] + matrix[2]) / 2, matrix[3]];
  const middle = (a + c) / 2;
  const half = Math.hypot((a - c) / 2, b);
  const angle = Math.atan2(b, (a - c) / 2) / 2;
  return { major: middle + half, minor: Math.max(middle - half, 0), angle: angle <= -Math.PI / 2 ? angle + Math.PI : angle };
}
