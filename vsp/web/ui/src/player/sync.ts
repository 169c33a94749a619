/**
 * Several recordings on one clock. The clock is the pane that is furthest behind: whoever is ahead
 * waits, so that nothing is skipped for anybody. A pane that crossed a gap of its own recording is
 * held until the others arrive there.
 */
import { SYNC_SEEK_MS } from './steer'

export interface PaneTime {
  /** Wall time of the shown picture; null while there is none. */
  wallMs: number | null
  /** Pictures come, or will come by themselves. False: ended, failed, denied. */
  running: boolean
  seeking: boolean
}

export interface PaneOrder {
  hold: boolean
  /** How far the clock is ahead of this pane; steers its speed. */
  offsetMs: number
}

export interface Together {
  clockMs: number | null
  orders: PaneOrder[]
}

export function together(panes: readonly PaneTime[]): Together {
  const times = panes
    .filter((pane) => pane.running && !pane.seeking && pane.wallMs !== null)
    .map((pane) => pane.wallMs as number)
  const clockMs = times.length > 0 ? Math.min(...times) : null
  return { clockMs, orders: panes.map((pane) => order(pane, clockMs, times.length)) }
}

function order(pane: PaneTime, clockMs: number | null, running: number): PaneOrder {
  if (clockMs === null || pane.wallMs === null || pane.seeking || running < 2) {
    return { hold: false, offsetMs: 0 }
  }
  const offsetMs = clockMs - pane.wallMs
  return offsetMs < -SYNC_SEEK_MS ? { hold: true, offsetMs: 0 } : { hold: false, offsetMs }
}
