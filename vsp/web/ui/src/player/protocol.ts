/** The text frames of the media socket, parsed once. Anything unknown is null and is passed over. */

import type { ErrorKind } from '@/api/types'

export type ServerState =
  | 'signalling'
  | 'waiting_media'
  | 'waiting_keyframe'
  | 'playing'
  | 'stalled'
  | 'ended'

export interface InitMessage {
  type: 'init'
  mime: string
  codec: string
  width: number
  height: number
  seq: number | null
}
export interface StateMessage {
  type: 'state'
  state: ServerState
  cause: string
  next_step: string
}
export interface GapMessage {
  type: 'gap'
  fromMs: number
  toMs: number
  cause: string
}
export interface ErrorMessage {
  type: 'error'
  kind: ErrorKind
  message: string
  cause: string
  next_step: string
}
export interface StatsMessage {
  type: 'stats'
  bits_per_s: number
  frames_per_s: number
  lost: number
  jitter_ms: number | null
  width: number
  height: number
  codec: string
}
/** Wall time of media time: wall = timeMs + (currentTime - mediaS). */
export interface ClockMessage {
  type: 'clock'
  mediaS: number
  timeMs: number
}
export interface PositionMessage {
  type: 'position'
  timeMs: number
  seq: number | null
  mediaS: number | null
}
/** What follows belongs to `seq` and begins at `timeMs`; the picture to show is `targetMs`. */
export interface SeekMessage {
  type: 'seek'
  seq: number
  timeMs: number
  mediaS: number | null
  targetMs: number | null
  targetMediaS: number | null
}

export type ServerMessage =
  | InitMessage
  | StateMessage
  | GapMessage
  | ErrorMessage
  | StatsMessage
  | ClockMessage
  | PositionMessage
  | SeekMessage

const STATES: readonly string[] = [
  'signalling',
  'waiting_media',
  'waiting_keyframe',
  'playing',
  'stalled',
  'ended',
]

export function parseMessage(text: string): ServerMessage | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const raw = value as Record<string, unknown>
  const type = str(raw.type)
  return Object.hasOwn(PARSERS, type) ? (PARSERS[type]?.(raw) ?? null) : null
}

type Raw = Record<string, unknown>

const PARSERS: Record<string, (raw: Raw) => ServerMessage | null> = {
  init: (raw) =>
    str(raw.mime)
      ? {
          type: 'init',
          mime: str(raw.mime),
          codec: str(raw.codec),
          width: num(raw.width),
          height: num(raw.height),
          seq: numOrNull(raw.seq),
        }
      : null,
  state: (raw) =>
    STATES.includes(str(raw.state))
      ? {
          type: 'state',
          state: raw.state as ServerState,
          cause: str(raw.cause),
          next_step: str(raw.next_step),
        }
      : null,
  gap: (raw) => ({
    type: 'gap',
    fromMs: Date.parse(str(raw.from)),
    toMs: Date.parse(str(raw.to)),
    cause: str(raw.cause),
  }),
  error: (raw) => ({
    type: 'error',
    kind: (str(raw.kind) || 'internal') as ErrorKind,
    message: str(raw.message),
    cause: str(raw.cause),
    next_step: str(raw.next_step),
  }),
  stats: (raw) => ({
    type: 'stats',
    bits_per_s: num(raw.bits_per_s),
    frames_per_s: num(raw.frames_per_s),
    lost: num(raw.lost),
    jitter_ms: numOrNull(raw.jitter_ms),
    width: num(raw.width),
    height: num(raw.height),
    codec: str(raw.codec) || str(raw.video),
  }),
  clock: (raw) => {
    const timeMs = Date.parse(str(raw.time))
    const mediaS = numOrNull(raw.media_s)
    return Number.isNaN(timeMs) || mediaS === null ? null : { type: 'clock', mediaS, timeMs }
  },
  position: (raw) => {
    const timeMs = Date.parse(str(raw.time))
    if (Number.isNaN(timeMs)) return null
    const mediaS = numOrNull(raw.media_time_s)
    return { type: 'position', timeMs, seq: numOrNull(raw.seq), mediaS }
  },
  seek: (raw) => {
    const seq = numOrNull(raw.seq)
    if (seq === null) return null
    return {
      type: 'seek',
      seq,
      timeMs: Date.parse(str(raw.time)),
      mediaS: numOrNull(raw.media_s),
      targetMs: instantOrNull(raw.target),
      targetMediaS: numOrNull(raw.target_media_s),
    }
  },
}

function str(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
function num(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}
function instantOrNull(value: unknown): number | null {
  const ms = Date.parse(str(value))
  return Number.isNaN(ms) ? null : ms
}
function numOrNull(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}
