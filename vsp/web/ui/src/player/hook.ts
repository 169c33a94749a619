/**
 * `window.__vsp`: what the players really do, for tests and for whoever opens the console of the
 * browser. Reading it changes nothing, and it holds nothing that the page does not show.
 */
import type { MediaPlayer } from './player'

export interface PlayerProbe {
  channel: string
  mode: string
  state: string
  currentTime: number
  /** Milliseconds between the wall clock of the shown frame and now, by the server's clock. */
  lag: number | null
  buffered: number
  wall: string | null
  rate: number
  shown: number
  dropped: number
  restarts: number
  width: number
  height: number
  video: HTMLVideoElement
}

declare global {
  interface Window {
    __vsp: { readonly players: PlayerProbe[] }
  }
}

const players = new Set<MediaPlayer>()

export function register(player: MediaPlayer): void {
  players.add(player)
}

export function unregister(player: MediaPlayer): void {
  players.delete(player)
}

function probe(player: MediaPlayer): PlayerProbe {
  const shot = player.snapshot()
  return {
    channel: player.channelId,
    mode: player.mode,
    state: shot.state,
    currentTime: player.video.currentTime,
    lag: shot.lagMs,
    buffered: shot.bufferS,
    wall: shot.wallMs === null ? null : new Date(shot.wallMs).toISOString(),
    rate: player.video.playbackRate,
    shown: shot.shown,
    dropped: shot.dropped,
    restarts: shot.restarts,
    width: shot.width,
    height: shot.height,
    video: player.video,
  }
}

export function installHook(): void {
  window.__vsp = {
    get players() {
      return [...players].map(probe)
    },
  }
}
