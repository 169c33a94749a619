/**
 * The shell around `core.ts`: one <video>, one MediaSource, one WebSocket, one timer.
 *
 * It carries out what the core asks, feeds the SourceBuffer one append at a time, and measures
 * what is really shown (requestVideoFrameCallback), because only that is the truth of a tile.
 */
import type { ViewTicket } from '@/api/types'
import { asApiError } from '@/api/client'
import { PlayerCore, type Action, type Gap, type PlayerMode, type PlayerState } from './core'
import { register, unregister } from './hook'
import { LagTarget, steerLive, steerPlayback, steerToSeek, syncRate, type Decision, type Range } from './steer'

/** How often the core is told that time passes, and the buffer is looked at. */
const TICK_MS = 250

/** Fragments joined into one append: fewer, larger appends cost the browser far less. */
const APPEND_BYTES_MAX = 4 << 20

/** Bytes waiting for the SourceBuffer. More means that the browser cannot keep up: begin anew. */
const QUEUE_BYTES_MAX = 32 << 20

/** How long a seek waits for the exact picture before it shows the nearest one. */
const SEEK_PATIENCE_MS = 2000

export interface PlayerSnapshot {
  state: PlayerState
  sinceMs: number
  cause: string
  nextStep: string
  troubleKind: string | null
  retryInMs: number | null
  codec: string
  width: number
  height: number
  bitsPerS: number | null
  framesPerS: number | null
  lost: number
  jitterMs: number | null
  lagMs: number | null
  wallMs: number | null
  seeking: boolean
  bufferS: number
  shown: number
  dropped: number
  restarts: number
  gap: Gap | null
}

export interface PlayerOptions {
  mode: PlayerMode
  channelId: string
  video: HTMLVideoElement
  /** Shows the last picture while a new stream is on its way. */
  hold: HTMLCanvasElement
  startMs?: number | null
  openView: (startMs: number | null) => Promise<ViewTicket>
  closeView: (viewId: string) => void
  serverNowMs: () => number
  onChange: (snapshot: PlayerSnapshot) => void
}

type Queued =
  | { kind: 'init'; mime: string; data: ArrayBuffer }
  | { kind: 'fragment'; data: ArrayBuffer }
  | { kind: 'flush' }

export class MediaPlayer {
  private readonly core: PlayerCore
  private readonly lagTarget = new LagTarget()
  private socket: WebSocket | null = null
  private source: MediaSource | null = null
  private buffer: SourceBuffer | null = null
  private bufferMime = ''
  private url = ''
  private queue: Queued[] = []
  private queuedBytes = 0
  private timer = 0
  private frameRequest = 0
  private lagS = 0
  private lagMs: number | null = null
  private rate = 1
  private syncOffsetMs = 0
  private paused = false
  private holding = false
  private stopped = false

  constructor(private readonly options: PlayerOptions) {
    const { mode, startMs } = options
    this.core = new PlayerCore({ mode, startMs, random: Math.random })
    const video = options.video
    video.muted = true
    video.addEventListener('waiting', this.onWaiting)
    video.addEventListener('error', this.onVideoError)
    register(this)
  }

  // ---- for the owner ------------------------------------------------------------------------

  start(): void {
    this.core.start(now())
    this.timer = window.setInterval(() => this.tick(), TICK_MS)
    this.watchFrames()
    this.run()
  }

  stop(): void {
    if (this.stopped) return
    this.stopped = true
    window.clearInterval(this.timer)
    this.options.video.cancelVideoFrameCallback(this.frameRequest)
    this.core.stop(now())
    this.run()
    this.closeSocket()
    this.dropSource()
    this.options.video.removeEventListener('waiting', this.onWaiting)
    this.options.video.removeEventListener('error', this.onVideoError)
    unregister(this)
  }

  retry(): void {
    this.core.retry(now())
    this.run()
  }

  nudge(): void {
    this.core.nudge(now())
    this.run()
  }

  setVisible(visible: boolean): void {
    this.core.setVisible(visible, now())
    this.run()
  }

  seek(timeMs: number): void {
    this.core.seek(timeMs, now())
    this.run()
  }

  setPaused(paused: boolean): void {
    this.paused = paused
    this.core.setPaused(paused, now())
    if (paused) this.options.video.pause()
    else this.play()
    this.run()
  }

  setRate(rate: number): void {
    this.rate = rate
    this.core.setRate(rate)
    this.run()
  }

  /** Playback beside others: how far behind the common clock this one is. */
  setSyncOffset(offsetMs: number): void {
    this.syncOffsetMs = offsetMs
  }

  /** One picture on or back, while paused. */
  step(direction: 1 | -1): void {
    const fps = this.core.stats?.frames_per_s || 25
    this.options.video.currentTime += direction / fps
  }

  get channelId(): string {
    return this.options.channelId
  }
  get mode(): PlayerMode {
    return this.options.mode
  }
  get video(): HTMLVideoElement {
    return this.options.video
  }
  get wallMs(): number | null {
    return this.core.wallMs()
  }

  snapshot(): PlayerSnapshot {
    const core = this.core
    const at = now()
    const state = core.state(at)
    return {
      state,
      sinceMs: core.sinceMs(at),
      cause: core.cause,
      nextStep: core.nextStep,
      troubleKind: core.troubleKind,
      retryInMs: core.retryInMs(at),
      codec: core.codec,
      width: core.width || this.options.video.videoWidth,
      height: core.height || this.options.video.videoHeight,
      bitsPerS: core.stats?.bits_per_s ?? null,
      framesPerS: core.stats?.frames_per_s ?? null,
      lost: core.stats?.lost ?? 0,
      jitterMs: core.stats?.jitter_ms ?? null,
      lagMs: state === 'playing' ? this.lagMs : null,
      wallMs: core.wallMs(),
      seeking: core.seekingMs !== null,
      bufferS: this.lagS,
      shown: core.shown,
      dropped: this.options.video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0,
      restarts: Math.max(0, core.restarts),
      gap: core.gap,
    }
  }

  // ---- carrying out -------------------------------------------------------------------------

  private run(): void {
    for (const action of this.core.take()) this.carryOut(action)
    this.options.onChange(this.snapshot())
  }

  private carryOut(action: Action): void {
    switch (action.do) {
      case 'open_view':
        void this.openView(action.startMs)
        return
      case 'close_view':
        this.options.closeView(action.viewId)
        return
      case 'connect':
        this.connect(action.url)
        return
      case 'disconnect':
        this.closeSocket()
        return
      case 'reset':
        this.newSource()
        return
      case 'flush':
        this.enqueue([{ kind: 'flush' }], true)
        return
      case 'init':
        this.enqueueInit(action.mime, action.data)
        return
      case 'append':
        this.enqueue([{ kind: 'fragment', data: action.data }])
        return
      case 'send':
        if (this.socket?.readyState === WebSocket.OPEN) {
          this.socket.send(JSON.stringify(action.message))
        }
    }
  }

  private async openView(startMs: number | null): Promise<void> {
    try {
      const view = await this.options.openView(startMs)
      this.core.viewOpened(view, now())
    } catch (error) {
      const { kind, message, cause, nextStep } = asApiError(error)
      this.core.viewFailed({ kind, message, cause, nextStep }, now())
    }
    this.run()
  }

  private connect(url: string): void {
    this.closeSocket()
    let socket: WebSocket
    try {
      socket = new WebSocket(url)
    } catch {
      this.core.socketClosed(now()) // not a URL, or the page's policy forbids the address
      this.run()
      return
    }
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => this.on(socket, () => this.core.socketOpened(now()))
    socket.onclose = () => this.on(socket, () => this.core.socketClosed(now()))
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) =>
      this.on(socket, () =>
        typeof data === 'string' ? this.core.text(data, now()) : this.core.binary(data, now()),
      )
    this.socket = socket
  }

  /** Words of a socket that we have left already are nobody's business. */
  private on(socket: WebSocket, act: () => void): void {
    if (this.socket !== socket) return
    act()
    for (const action of this.core.take()) this.carryOut(action)
  }

  private closeSocket(): void {
    const socket = this.socket
    this.socket = null
    socket?.close()
  }

  // ---- MediaSource --------------------------------------------------------------------------

  private newSource(): void {
    this.holdPicture()
    this.dropSource()
    const source = new MediaSource()
    this.source = source
    this.url = URL.createObjectURL(source)
    source.addEventListener('sourceopen', () => this.pump())
    this.options.video.src = this.url
  }

  private dropSource(): void {
    this.queue = []
    this.queuedBytes = 0
    this.buffer = null
    this.bufferMime = ''
    this.source = null
    if (!this.url) return
    this.options.video.removeAttribute('src')
    this.options.video.load()
    URL.revokeObjectURL(this.url)
    this.url = ''
  }

  private enqueueInit(mime: string, data: ArrayBuffer): void {
    if (!MediaSource.isTypeSupported(mime)) {
      this.core.unsupported(mime, now())
      return
    }
    this.enqueue([{ kind: 'init', mime, data }])
  }

  private enqueue(items: Queued[], replace = false): void {
    if (replace) {
      this.queue = []
      this.queuedBytes = 0
    }
    for (const item of items) {
      this.queue.push(item)
      this.queuedBytes += sizeOf(item)
    }
    if (this.queuedBytes > QUEUE_BYTES_MAX) this.core.mediaFailed('queue_full', now())
    this.pump()
  }

  private pump(): void {
    const head = this.queue[0]
    if (!head || this.source?.readyState !== 'open' || this.buffer?.updating) return
    try {
      if (head.kind === 'flush') this.flush()
      else if (head.kind === 'init') this.appendInit(head.mime, head.data)
      else this.appendFragments()
    } catch (error) {
      this.appendFailed(error)
    }
  }

  private flush(): void {
    this.queue.shift()
    const buffer = this.buffer
    if (!buffer) return this.pump()
    buffer.abort()
    if (buffer.buffered.length > 0) buffer.remove(0, Infinity)
    else this.pump()
  }

  private appendInit(mime: string, data: ArrayBuffer): void {
    if (!this.buffer) this.addBuffer(mime)
    else if (this.bufferMime !== mime) this.buffer.changeType(mime)
    this.bufferMime = mime
    this.buffer?.appendBuffer(data)
    this.dequeue(1)
    this.play()
  }

  private addBuffer(mime: string): void {
    if (!this.source) return
    const buffer = this.source.addSourceBuffer(mime)
    buffer.addEventListener('updateend', () => {
      if (this.buffer !== buffer) return
      this.steer()
      this.pump()
    })
    buffer.addEventListener('error', () => {
      if (this.buffer === buffer) this.mediaFailed('append_error')
    })
    this.buffer = buffer
  }

  private appendFragments(): void {
    if (!this.buffer) {
      this.dequeue(1) // a fragment before any init segment cannot be decoded
      return this.pump()
    }
    let bytes = 0
    let n = 0
    for (const item of this.queue) {
      if (item.kind !== 'fragment' || (n > 0 && bytes + sizeOf(item) > APPEND_BYTES_MAX)) break
      bytes += sizeOf(item)
      n += 1
    }
    this.buffer.appendBuffer(join(this.queue.slice(0, n), bytes))
    this.dequeue(n)
  }

  private dequeue(n: number): void {
    for (const item of this.queue.splice(0, n)) this.queuedBytes -= sizeOf(item)
  }

  private appendFailed(error: unknown): void {
    const full = error instanceof DOMException && error.name === 'QuotaExceededError'
    const ranges = this.ranges()
    const cut = this.options.video.currentTime - 1
    if (full && this.buffer && ranges[0] && cut > ranges[0].start) {
      this.buffer.remove(0, cut) // updateend pumps again
      return
    }
    this.mediaFailed(full ? 'quota' : 'append_error')
  }

  private mediaFailed(reason: string): void {
    this.core.mediaFailed(reason, now())
    this.run()
  }

  // ---- steering -----------------------------------------------------------------------------

  private tick(): void {
    this.core.advance(now())
    this.steer()
    this.run()
  }

  private ranges(): Range[] {
    const buffered = this.options.video.buffered
    const ranges: Range[] = []
    for (let i = 0; i < buffered.length; i++) {
      ranges.push({ start: buffered.start(i), end: buffered.end(i) })
    }
    return ranges
  }

  private steer(): void {
    const ranges = this.ranges()
    if (ranges.length === 0) return
    const decision = this.decide(ranges)
    this.lagS = decision.lagS
    const video = this.options.video
    if (video.playbackRate !== decision.rate) video.playbackRate = decision.rate
    if (decision.jumpTo !== null) video.currentTime = decision.jumpTo
    if (decision.trim && this.buffer && !this.buffer.updating && decision.trim.end > 0) {
      this.buffer.remove(decision.trim.start, decision.trim.end)
    }
  }

  private decide(ranges: Range[]): Decision {
    const state = { ranges, current: this.options.video.currentTime }
    if (this.options.mode === 'live') return steerLive(state, this.lagTarget.valueS(now()))
    if (this.core.seekingMs === null) {
      return steerPlayback(state, syncRate(this.rate, this.syncOffsetMs))
    }
    const exact = this.core.seekTargetS ?? this.core.clock.mediaS(this.core.seekingMs)
    const patient = now() - this.core.seekingSince < SEEK_PATIENCE_MS
    return steerToSeek(state, exact, patient, this.rate)
  }

  private play(): void {
    if (this.paused) return
    // Muted video may always play; a refusal here comes only from a newer src replacing this one.
    void this.options.video.play().catch(() => {})
  }

  private onWaiting = (): void => {
    if (this.options.mode === 'live' && this.core.shown > 0) this.lagTarget.starved(now())
  }

  private onVideoError = (): void => {
    const error = this.options.video.error
    if (error && this.url) this.mediaFailed(error.message || `media_error_${error.code}`)
  }

  // ---- what is shown ------------------------------------------------------------------------

  private watchFrames(): void {
    const video = this.options.video
    this.frameRequest = video.requestVideoFrameCallback((_, frame) => {
      if (this.stopped) return
      this.frameShown(frame.mediaTime)
      this.watchFrames()
    })
  }

  private frameShown(mediaS: number): void {
    this.core.frameShown(mediaS, now())
    if (this.holding) this.releasePicture()
    const wallMs = this.core.clock.wallMs(mediaS)
    const lagMs = wallMs === null ? null : this.options.serverNowMs() - wallMs
    // Averaged over a few frames: the figure is read by people, four times a second.
    this.lagMs = lagMs === null || this.lagMs === null ? lagMs : this.lagMs * 0.8 + lagMs * 0.2
  }

  private holdPicture(): void {
    const { video, hold } = this.options
    if (video.readyState < 2 || video.videoWidth === 0) return
    hold.width = video.videoWidth
    hold.height = video.videoHeight
    hold.getContext('2d')?.drawImage(video, 0, 0)
    hold.style.visibility = 'visible'
    this.holding = true
  }

  private releasePicture(): void {
    this.options.hold.style.visibility = 'hidden'
    this.holding = false
  }
}

function now(): number {
  return performance.now()
}

function sizeOf(item: Queued): number {
  return item.kind === 'flush' ? 0 : item.data.byteLength
}

function join(items: Queued[], bytes: number): ArrayBuffer {
  const only = items[0]
  if (items.length === 1 && only && only.kind !== 'flush') return only.data
  const whole = new Uint8Array(bytes)
  let offset = 0
  for (const item of items) {
    if (item.kind === 'flush') continue
    whole.set(new Uint8Array(item.data), offset)
    offset += item.data.byteLength
  }
  return whole.buffer
}
