/** The server's clock, as seen from here. A desk PC may be minutes off; a lag shown must not be. */
import { api } from './index'

/** Re-measured this often: PC clocks drift by seconds a day, not by the minute. */
const REFRESH_MS = 300_000

let offsetMs = 0
let timer = 0

export function serverNowMs(): number {
  return Date.now() + offsetMs
}

/** Offset by the shortest of a few exchanges: the less time on the way, the less the error. */
export async function measureServerTime(): Promise<void> {
  let best = Infinity
  for (let i = 0; i < 3; i++) {
    const sent = performance.now()
    const { now } = await api.health()
    const tripMs = performance.now() - sent
    const theirs = Date.parse(now)
    if (Number.isNaN(theirs) || tripMs >= best) continue
    best = tripMs
    offsetMs = theirs + tripMs / 2 - Date.now()
  }
}

export function keepServerTime(): void {
  if (timer) return
  const measure = () => void measureServerTime().catch(() => {}) // unreachable: keep the last one
  measure()
  timer = window.setInterval(measure, REFRESH_MS)
}
