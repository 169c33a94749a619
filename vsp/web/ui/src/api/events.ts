/**
 * The event feed: one WebSocket that tells what changed. Events are hints: whoever listens reads
 * the truth again from the API, so that a lost event costs a moment and never correctness.
 */
import { backoffMs } from '@/lib/backoff'

export interface FeedEvent {
  type: string
  [key: string]: unknown
}

type Listener = (event: FeedEvent) => void

/** Type of the event that we make ourselves when the feed is back after a hole. */
export const RESYNC = 'resync'

class EventFeed {
  private listeners = new Set<Listener>()
  private socket: WebSocket | null = null
  private timer = 0
  private failures = 0
  private wanted = false

  /** Listen for as long as the returned function has not been called. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  start(): void {
    if (this.wanted) return
    this.wanted = true
    this.open()
  }

  stop(): void {
    this.wanted = false
    this.failures = 0
    window.clearTimeout(this.timer)
    this.socket?.close()
    this.socket = null
  }

  private open(): void {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:'
    const socket = new WebSocket(`${scheme}//${location.host}/api/v1/events`)
    this.socket = socket
    socket.onopen = () => {
      this.failures = 0
      this.tell({ type: RESYNC })
    }
    socket.onmessage = (message) => this.take(message.data)
    socket.onclose = () => {
      if (this.socket === socket) this.retry()
    }
  }

  private take(data: unknown): void {
    if (typeof data !== 'string') return
    let event: unknown
    try {
      event = JSON.parse(data)
    } catch {
      return // not JSON: not from our server's feed, and nothing to act on
    }
    if (typeof event === 'object' && event !== null && 'type' in event) this.tell(event as FeedEvent)
  }

  private tell(event: FeedEvent): void {
    for (const listener of this.listeners) listener(event)
  }

  private retry(): void {
    this.socket = null
    if (!this.wanted) return
    this.timer = window.setTimeout(() => this.open(), backoffMs(this.failures++, Math.random()))
  }
}

export const feed = new EventFeed()
