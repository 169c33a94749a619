/** How long to wait before trying again. Pure: the caller brings the randomness. */

/** First wait: short enough that a blip of the network is hardly seen. */
export const BACKOFF_FIRST_MS = 500

/** Longest wait: a person who watches a tile should not wait longer than this for a camera. */
export const BACKOFF_MAX_MS = 15_000

/** Doubling from BACKOFF_FIRST_MS to BACKOFF_MAX_MS, spread by +-20 % so that a wall of tiles does
 * not come back in one instant. `random` is in [0, 1). */
export function backoffMs(failures: number, random: number): number {
  const base = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures, 10))
  return Math.round(base * (0.8 + 0.4 * random))
}
