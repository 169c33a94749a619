/**
 * One player's life, without DOM, sockets or timers: what it heard goes in with `now`, what it
 * wants done comes out of `take()`. The shell in `player.ts` does it.
 *
 *   idle -> opening -> connecting -> open -> (waiting -> opening ...) | final
 *                                      |
 *                                   suspended (hidden page or tile)
 *
 * A player ends only when its owner stops it or when trying again cannot help (no right, no such
 * channel, a codec this browser lacks). Everything else leads back to `opening` with back-off,
 * asking for a new view each time, because a ticket opens one stream once.
 */
import type { ErrorKind, ViewTicket } from '@/api/types'
import { backoffMs } from '@/lib/backoff'
import { MediaClock } from './clock'
import {
  parseMessage,
  type ErrorMessage,
  type GapMessage,
  type SeekMessage,
  type ServerMessage,
  type ServerState,
  type StateMessage,
  type StatsMessage,
} from './protocol'

export type PlayerMode = 'live' | 'playback'

export type PlayerState =
  | 'idle'
  | 'signalling'
  | 'waiting_media'
  | 'waiting_keyframe'
  | 'playing'
  | 'paused'
  | 'stalled'
  | 'ended'
  | 'denied'
  | 'unsupported'
  | 'failed'
  | 'suspended'

type Phase = 'idle' | 'opening' | 'connecting' | 'open' | 'waiting' | 'final' | 'suspended'

export type Action =
  | { do: 'open_view'; startMs: number | null }
  | { do: 'close_view'; viewId: string }
  | { do: 'connect'; url: string }
  | { do: 'disconnect' }
  /** Begin with an empty MediaSource; the last picture stays until a new one is there. */
  | { do: 'reset' }
  /** Forget everything buffered: what follows belongs to another moment. */
  | { do: 'flush' }
  | { do: 'init'; mime: string; data: ArrayBuffer }
  | { do: 'append'; data: ArrayBuffer }
  | { do: 'send'; message: object }

export interface Trouble {
  kind: ErrorKind
  message: string
  cause: string
  nextStep: string
}

export interface Gap {
  fromMs: number
  toMs: number
  cause: string
}

/** No frame for this long while we should be playing: the tile says so. */
export const STALL_AFTER_MS = 1500

/** Fragments arrive, the page is visible, and still no new frame: the decoder is stuck. */
export const FROZEN_AFTER_MS = 6000

/** While playing the server speaks every second (stats); silence this long means a dead socket. */
export const SILENT_AFTER_MS = 12_000

/** Before the first picture it may rightly be silent: an INVITE and its media may take 10 s each. */
export const SILENT_BEFORE_PICTURE_MS = 40_000

/** Longest time to establish the socket. */
export const CONNECT_TIMEOUT_MS = 8000

/** A hidden live player lets go of its stream after this long: closed tiles must cost nothing. */
export const SUSPEND_AFTER_MS = 20_000

/** A gap is spoken of until this long after it has been crossed. */
const GAP_SHOWN_MS = 4000

/** Playing this long without trouble clears the count of failures. */
const HEALTHY_AFTER_MS = 8000

/**
 * Trying again cannot help with these; only a person can. `not_found` is not among them: a stream
 * that was lost with its worker is not found either, and is back seconds later.
 */
const FINAL_KINDS: readonly ErrorKind[] = ['denied', 'unsupported', 'invalid']

const NO_TROUBLE: Trouble = { kind: 'internal', message: '', cause: '', nextStep: '' }

export interface CoreOptions {
  mode: PlayerMode
  random: () => number
  /** Playback: the moment to begin at. */
  startMs?: number | null
}

export class PlayerCore {
  readonly clock = new MediaClock()
  stats: StatsMessage | null = null
  mime = ''
  codec = ''
  width = 0
  height = 0
  /** How often it had to begin anew after the first time. */
  restarts = -1
  shown = 0
  gap: Gap | null = null
  /** Playback: where the user wants to be until a frame of that place is shown. */
  seekingMs: number | null = null
  /** When that wish was spoken. */
  seekingSince = 0
  /** Media time of the picture that fulfils it, as the server told. */
  seekTargetS: number | null = null

  private phase: Phase = 'idle'
  private actions: Action[] = []
  private viewId = ''
  private serverState: ServerState | null = null
  private words = { cause: '', nextStep: '' }
  private trouble: Trouble = NO_TROUBLE
  private failures = 0
  private deadline = 0
  private retryAt = 0
  private lastMessageAt = 0
  private lastFragmentAt = 0
  private lastFrameAt = 0
  private frameInConnection = false
  private playingSince = 0
  private lastMediaS: number | null = null
  private expectInit: { mime: string } | null = null
  private seqWanted = 0
  private seqHeard: number | null = null
  private paused = false
  private rate = 1
  private visible = true
  private hiddenSince = 0
  private startMs: number | null
  private stateSeen: PlayerState = 'idle'
  private stateSince = 0

  constructor(private readonly options: CoreOptions) {
    this.startMs = options.startMs ?? null
  }

  // ---- what the owner wants -----------------------------------------------------------------

  start(now: number): void {
    if (this.phase !== 'idle' && this.phase !== 'final' && this.phase !== 'waiting') return
    this.open(now)
  }

  /** Try again now, whatever went before. */
  retry(now: number): void {
    this.failures = 0
    this.leave()
    this.open(now)
  }

  /** Something has changed for the better: do not wait for the next try. */
  nudge(now: number): void {
    if (this.phase === 'waiting') this.open(now)
  }

  stop(now: number): void {
    this.leave()
    this.to('idle', now)
  }

  /** Playback: go to this moment. Fragments of any earlier seek are thrown away from here on. */
  seek(timeMs: number, now: number): void {
    this.startMs = timeMs
    this.seekingMs = timeMs
    this.seekingSince = now
    this.seekTargetS = null
    this.gap = null
    this.lastMediaS = null
    if (this.phase !== 'open') {
      if (this.phase === 'final' || this.phase === 'waiting') this.retry(now)
      return
    }
    this.seqWanted = Math.max(this.seqWanted, this.seqHeard ?? 0) + 1
    this.clock.clear()
    this.serverState = null
    this.frameInConnection = false
    this.lastFrameAt = now
    this.push({ do: 'flush' })
    this.push({ do: 'send', message: { seek: { seq: this.seqWanted, time: iso(timeMs) } } })
  }

  setPaused(paused: boolean, now: number): void {
    if (this.paused === paused) return
    this.paused = paused
    this.lastFrameAt = now
    if (this.phase === 'open') this.push({ do: 'send', message: { pause: paused } })
  }

  setRate(rate: number): void {
    if (this.rate === rate) return
    this.rate = rate
    if (this.phase === 'open') this.push({ do: 'send', message: { rate } })
  }

  setVisible(visible: boolean, now: number): void {
    if (this.visible === visible) return
    this.visible = visible
    this.hiddenSince = now
    this.lastFrameAt = now
    if (visible && this.phase === 'suspended') this.open(now)
  }

  // ---- what happened ------------------------------------------------------------------------

  viewOpened(view: ViewTicket, now: number): void {
    if (this.phase !== 'opening') {
      this.push({ do: 'close_view', viewId: view.view_id }) // the owner has changed its mind
      return
    }
    this.viewId = view.view_id
    this.to('connecting', now)
    this.deadline = now + CONNECT_TIMEOUT_MS
    const join = view.url.includes('?') ? '&' : '?'
    this.push({ do: 'connect', url: `${view.url}${join}ticket=${encodeURIComponent(view.ticket)}` })
  }

  viewFailed(trouble: Trouble, now: number): void {
    if (this.phase === 'opening') this.fail(trouble, now)
  }

  socketOpened(now: number): void {
    if (this.phase !== 'connecting') return
    this.lastMessageAt = now
    this.lastFrameAt = now
    this.to('open', now)
    this.push({ do: 'reset' })
    if (this.rate !== 1) this.push({ do: 'send', message: { rate: this.rate } })
    if (this.paused) this.push({ do: 'send', message: { pause: true } })
  }

  socketClosed(now: number): void {
    if (this.phase !== 'connecting' && this.phase !== 'open') return
    if (this.serverState === 'ended' && this.options.mode === 'playback') {
      this.phase = 'final'
      return
    }
    const said = this.trouble !== NO_TROUBLE ? this.trouble : null
    this.fail(said ?? this.endedTrouble() ?? network('socket_closed'), now)
  }

  text(text: string, now: number): void {
    if (this.phase !== 'open') return
    this.lastMessageAt = now
    const message = parseMessage(text)
    if (message) this.hear(message, now)
  }

  binary(data: ArrayBuffer, now: number): void {
    if (this.phase !== 'open') return
    this.lastMessageAt = now
    if (this.stale()) return
    this.trouble = NO_TROUBLE
    this.lastFragmentAt = now
    if (this.expectInit) {
      this.push({ do: 'init', mime: this.expectInit.mime, data })
      this.expectInit = null
    } else {
      this.push({ do: 'append', data })
    }
  }

  frameShown(mediaS: number, now: number): void {
    this.shown += 1
    if (this.phase !== 'open') return
    if (!this.frameInConnection) this.playingSince = now
    this.frameInConnection = true
    this.lastFrameAt = now
    this.lastMediaS = mediaS
    this.seekingMs = null
    if (this.gap && (this.wallMs() ?? 0) > this.gap.toMs + GAP_SHOWN_MS) this.gap = null
    if (now - this.playingSince > HEALTHY_AFTER_MS) this.failures = 0
  }

  /** The browser's media stack gave up; a new MediaSource is the cure. */
  mediaFailed(reason: string, now: number): void {
    if (this.phase !== 'open') return
    this.fail(network(reason), now)
  }

  unsupported(mime: string, now: number): void {
    this.leave()
    this.trouble = { kind: 'unsupported', message: mime, cause: '', nextStep: '' }
    this.to('final', now)
  }

  // ---- time passes --------------------------------------------------------------------------

  advance(now: number): void {
    if (this.phase === 'waiting' && now >= this.retryAt) this.open(now)
    if (this.phase === 'connecting' && now >= this.deadline) this.fail(network('connect_timeout'), now)
    if (this.phase === 'open') this.watch(now)
    this.noteState(now)
  }

  private noteState(now: number): void {
    const state = this.state(now)
    if (state === this.stateSeen) return
    this.stateSeen = state
    this.stateSince = now
  }

  private watch(now: number): void {
    const hiddenLong = !this.visible && now - this.hiddenSince > SUSPEND_AFTER_MS
    if (hiddenLong && this.options.mode === 'live') {
      this.leave()
      this.to('suspended', now)
      return
    }
    if (this.serverState === 'ended' && this.options.mode === 'playback') return // all is played
    const patienceMs = this.frameInConnection ? SILENT_AFTER_MS : SILENT_BEFORE_PICTURE_MS
    if (now - this.lastMessageAt > patienceMs && !this.paused) {
      this.fail(network('silent'), now)
      return
    }
    const fed = this.lastFragmentAt > this.lastFrameAt
    const frozenMs = now - this.lastFrameAt
    if (this.visible && !this.paused && fed && frozenMs > FROZEN_AFTER_MS) {
      this.fail(network('no_frame_shown'), now)
    }
  }

  // ---- what a tile shows --------------------------------------------------------------------

  state(now: number): PlayerState {
    switch (this.phase) {
      case 'idle':
        return 'idle'
      case 'suspended':
        return 'suspended'
      case 'opening':
      case 'connecting':
        return 'signalling'
      case 'waiting':
        return 'failed'
      case 'final':
        return this.finalState()
      case 'open':
        return this.openState(now)
    }
  }

  private finalState(): PlayerState {
    if (this.serverState === 'ended' && this.trouble === NO_TROUBLE) return 'ended'
    if (this.trouble.kind === 'denied') return 'denied'
    return this.trouble.kind === 'unsupported' ? 'unsupported' : 'failed'
  }

  private openState(now: number): PlayerState {
    if (!this.frameInConnection) {
      if (this.serverState === 'ended') return 'ended'
      const before = this.serverState === null || this.serverState === 'playing'
      if (before) return this.lastFragmentAt > 0 || this.mime ? 'waiting_keyframe' : 'signalling'
      return this.serverState as PlayerState
    }
    if (this.paused) return 'paused'
    const recent = now - this.lastFrameAt <= STALL_AFTER_MS
    if (recent || !this.visible) return 'playing'
    return this.serverState === 'ended' ? 'ended' : 'stalled'
  }

  sinceMs(now: number): number {
    return Math.max(0, now - this.stateSince)
  }

  retryInMs(now: number): number | null {
    return this.phase === 'waiting' ? Math.max(0, this.retryAt - now) : null
  }

  get cause(): string {
    return this.trouble.cause || this.trouble.message || this.words.cause
  }

  get nextStep(): string {
    return this.trouble.nextStep || this.words.nextStep
  }

  get troubleKind(): ErrorKind | null {
    return this.trouble === NO_TROUBLE ? null : this.trouble.kind
  }

  /** Wall time of the shown frame; while a seek is under way, of the place sought. */
  wallMs(): number | null {
    if (this.seekingMs !== null) return this.seekingMs
    return this.lastMediaS === null ? null : this.clock.wallMs(this.lastMediaS)
  }

  take(): Action[] {
    const actions = this.actions
    this.actions = []
    return actions
  }

  // ---- inside -------------------------------------------------------------------------------

  private hear(message: ServerMessage, now: number): void {
    switch (message.type) {
      case 'init':
        this.hearSeq(message.seq)
        if (this.stale()) return
        this.expectInit = { mime: message.mime }
        this.mime = message.mime
        this.codec = message.codec
        this.width = message.width
        this.height = message.height
        return
      case 'seek':
        this.hearSeek(message)
        return
      case 'clock':
        if (!this.stale()) this.clock.add(message)
        return
      case 'position':
        this.hearPosition(message.seq, message.mediaS, message.timeMs)
        return
      case 'state':
        this.hearState(message, now)
        return
      case 'stats':
        this.stats = message
        if (message.codec) this.codec = message.codec
        if (message.width) this.width = message.width
        if (message.height) this.height = message.height
        return
      case 'gap':
        this.hearGap(message)
        return
      case 'error':
        this.hearError(message)
    }
  }

  private hearState(message: StateMessage, now: number): void {
    this.serverState = message.state
    this.words = { cause: message.cause, nextStep: message.next_step }
    if (message.state === 'ended' && this.trouble !== NO_TROUBLE) this.fail(this.trouble, now)
  }

  private hearSeek(message: SeekMessage): void {
    this.hearSeq(message.seq)
    if (this.stale()) return
    this.serverState = null
    this.trouble = NO_TROUBLE
    this.seekTargetS = message.targetMediaS
    if (this.seekingMs !== null && message.targetMs !== null) this.seekingMs = message.targetMs
    if (message.mediaS !== null) {
      this.clock.add({ mediaS: message.mediaS, timeMs: message.timeMs })
    }
  }

  private hearSeq(seq: number | null): void {
    if (seq !== null) this.seqHeard = seq
  }

  /** True while what arrives still belongs to a seek that has been overtaken. */
  private stale(): boolean {
    return this.seqWanted > 0 && (this.seqHeard ?? 0) < this.seqWanted
  }

  private hearPosition(seq: number | null, mediaS: number | null, timeMs: number): void {
    if (seq !== null && this.seqWanted > 0 && seq < this.seqWanted) return
    if (mediaS === null || this.stale()) return
    const known = this.clock.wallMs(mediaS)
    if (known === null || Math.abs(known - timeMs) > 50) this.clock.add({ mediaS, timeMs })
  }

  private hearGap(message: GapMessage): void {
    if (!this.stale()) this.gap = message
  }

  /** Not the end yet: it may be a complaint about one command. `ended` or a closed socket is. */
  private hearError(message: ErrorMessage): void {
    this.trouble = {
      kind: message.kind,
      message: message.message,
      cause: message.cause,
      nextStep: message.next_step,
    }
  }

  private endedTrouble(): Trouble | null {
    if (this.serverState !== 'ended') return null
    return { kind: 'unavailable', message: '', cause: this.words.cause, nextStep: this.words.nextStep }
  }

  private open(now: number): void {
    this.restarts += 1
    this.trouble = NO_TROUBLE
    this.words = { cause: '', nextStep: '' }
    this.serverState = null
    this.frameInConnection = false
    this.expectInit = null
    this.lastFragmentAt = 0
    this.mime = ''
    this.seqWanted = 0
    this.seqHeard = null
    if (this.options.mode === 'playback') {
      this.startMs = this.wallMs() ?? this.startMs
      this.seekingMs = this.startMs
      this.seekingSince = now
      this.seekTargetS = null
    }
    this.clock.clear()
    this.lastMediaS = null
    this.stats = null
    this.to('opening', now)
    this.push({ do: 'open_view', startMs: this.startMs })
  }

  private fail(trouble: Trouble, now: number): void {
    const at = this.options.mode === 'playback' ? this.wallMs() : null
    this.leave()
    if (at !== null) this.startMs = at
    this.trouble = trouble
    if (FINAL_KINDS.includes(trouble.kind)) {
      this.to('final', now)
      return
    }
    this.retryAt = now + backoffMs(this.failures++, this.options.random())
    this.to('waiting', now)
  }

  /**
   * Let go of the socket and of the view, if there are any. A view ends with its socket; only one
   * that nobody has attached to yet must be closed by name.
   */
  private leave(): void {
    if (this.phase === 'connecting' || this.phase === 'open') this.push({ do: 'disconnect' })
    if (this.phase === 'connecting') this.push({ do: 'close_view', viewId: this.viewId })
    this.viewId = ''
  }

  private to(phase: Phase, now: number): void {
    this.phase = phase
    this.noteState(now)
  }

  private push(action: Action): void {
    this.actions.push(action)
  }
}

function network(reason: string): Trouble {
  return { kind: 'network', message: reason, cause: '', nextStep: '' }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
