/**
 * What to do with the buffer, decided without a DOM: how fast to play, when to jump, what to trim.
 *
 * Live: stay `target` behind the newest frame. Small errors are steered away by playing 1-10 %
 * faster (or slightly slower when the buffer runs dry), large ones by a jump, so that lag never
 * grows. Playback: cross holes in the buffer and keep its size bounded.
 */

export interface Range {
  start: number
  end: number
}

export interface BufferState {
  /** Buffered ranges in media seconds, in order. */
  ranges: readonly Range[]
  current: number
}

export interface Decision {
  rate: number
  jumpTo: number | null
  /** Remove this part of the buffer. */
  trim: Range | null
  /** Seconds between the shown frame and the newest buffered one. */
  lagS: number
}

/** Behind by more than this, catching up at +10 % would take over ten seconds: jump instead. */
export const JUMP_LAG_S = 1.5

/** Kept behind the shown frame in live, for the decoder's key frame and a short look back. */
export const KEEP_BEHIND_S = 12

/** A buffer longer than this is trimmed: 30 s of 8 Mbit/s are 30 MB, far below browsers' quotas. */
export const KEEP_TOTAL_S = 30

/** Errors below this are the arrival of single frames, not drift. */
const DEADBAND_S = 0.08

/** Fastest and slowest: beyond +10 % motion looks wrong; below -5 % lag grows needlessly. */
export const RATE_MAX = 1.1
export const RATE_MIN = 0.95

/** A range end closer than this counts as reached: browsers stop a little before it. */
const EDGE_S = 0.12

export function steerLive(buffer: BufferState, targetS: number): Decision {
  const last = buffer.ranges.at(-1)
  if (!last) return { rate: 1, jumpTo: null, trim: null, lagS: 0 }
  const lagS = last.end - buffer.current
  const jumpTo = liveJump(buffer.current, last, targetS)
  const trim = trimOf(buffer.ranges, jumpTo ?? buffer.current)
  return { rate: jumpTo === null ? liveRate(lagS, targetS) : 1, jumpTo, trim, lagS }
}

function liveJump(current: number, last: Range, targetS: number): number | null {
  const goal = Math.max(last.start, last.end - targetS)
  if (current < last.start - 0.001) return goal // before the buffer, or in an older island
  if (last.end - current > JUMP_LAG_S) return goal
  if (current > last.end + 0.5) return goal // media time went backwards
  return null
}

function liveRate(lagS: number, targetS: number): number {
  const error = lagS - targetS
  if (error > DEADBAND_S) return hundredths(Math.min(RATE_MAX, 1 + error * 0.2))
  if (lagS < targetS / 2) return hundredths(Math.max(RATE_MIN, 1 + (lagS - targetS / 2) * 0.3))
  return 1
}

/** Playback at the chosen speed: only holes and size are ours; `rate` is what the user wants. */
export function steerPlayback(buffer: BufferState, rate: number): Decision {
  const last = buffer.ranges.at(-1)
  if (!last) return { rate, jumpTo: null, trim: null, lagS: 0 }
  const jumpTo = holeJump(buffer)
  const trim = trimOf(buffer.ranges, jumpTo ?? buffer.current)
  return { rate, jumpTo, trim, lagS: Math.max(0, last.end - buffer.current) }
}

/**
 * After a seek. A recording can be entered at a key frame only, so the buffer begins before the
 * moment asked for; `exact` is that moment in media time. While patient, wait for it to arrive.
 */
export function steerToSeek(
  buffer: BufferState,
  exact: number | null,
  patient: boolean,
  rate: number,
): Decision {
  const first = buffer.ranges[0]
  const last = buffer.ranges.at(-1)
  if (!first || !last || exact === null) return steerPlayback(buffer, rate)
  const wait: Decision = { rate, jumpTo: null, trim: null, lagS: 0 }
  if (exact > last.end - 0.05 && patient) return wait
  const goal = Math.min(Math.max(exact, first.start), Math.max(first.start, last.end - 0.05))
  return Math.abs(goal - buffer.current) > 0.02 ? { ...wait, jumpTo: goal } : wait
}

function holeJump({ ranges, current }: BufferState): number | null {
  const next = ranges.find((range) => range.start > current)
  if (!next) return null
  const inside = ranges.find((range) => current >= range.start && current < range.end - EDGE_S)
  return inside ? null : next.start + 0.001
}

/** What lies too far behind `current`, once the whole buffer is longer than we keep. */
function trimOf(ranges: readonly Range[], current: number): Range | null {
  const first = ranges[0]
  if (!first) return null
  const behind = current - first.start
  return behind > KEEP_TOTAL_S ? { start: 0, end: current - KEEP_BEHIND_S } : null
}

function hundredths(value: number): number {
  return Math.round(value * 100) / 100
}

/** Two panes of one clock may differ by this much: below it an eye sees no difference. */
const SYNC_TOLERANCE_MS = 80

/** A pane further off than this is sought; steering would take too long. */
export const SYNC_SEEK_MS = 2500

/** How fast a follower plays to meet the master: `offsetMs` > 0 means that it is behind. */
export function syncRate(rate: number, offsetMs: number): number {
  if (Math.abs(offsetMs) <= SYNC_TOLERANCE_MS) return rate
  const correction = Math.max(-0.1, Math.min(0.1, offsetMs / 5000))
  return Math.round(rate * (1 + correction) * 1000) / 1000
}

/**
 * The lag target of one player. Every time the buffer runs dry it grows, because the network is
 * less even than hoped; quiet minutes bring it back.
 */
export class LagTarget {
  private extraS = 0
  private changedAt = 0

  constructor(private readonly baseS: number = LAG_TARGET_S) {}

  starved(now: number): void {
    if (now - this.changedAt < 1000 && this.extraS > 0) return // one dry spell, many events
    this.extraS = Math.min(LAG_TARGET_MAX_S - this.baseS, this.extraS + 0.15)
    this.changedAt = now
  }

  valueS(now: number): number {
    const quietS = (now - this.changedAt) / 1000
    return this.baseS + Math.max(0, this.extraS - 0.15 * Math.floor(quietS / 30))
  }
}

/** Ten frames at 25 fps: survives the jitter of a good LAN, and feels immediate. */
export const LAG_TARGET_S = 0.4
export const LAG_TARGET_MAX_S = 1.2
