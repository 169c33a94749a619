/** A MediaPlayer for the life of a component. */
import { onBeforeUnmount, onMounted, ref, shallowRef, type Ref, type ShallowRef } from 'vue'
import { api } from '@/api'
import { serverNowMs } from '@/api/servertime'
import type { PlayerMode } from './core'
import { MediaPlayer, type PlayerSnapshot } from './player'

export interface UsedPlayer {
  snapshot: ShallowRef<PlayerSnapshot | null>
  player: ShallowRef<MediaPlayer | null>
}

interface Places {
  video: Readonly<Ref<HTMLVideoElement | null>>
  hold: Readonly<Ref<HTMLCanvasElement | null>>
}

export function usePlayer(
  mode: PlayerMode,
  channelId: string,
  places: Places,
  startMs: number | null = null,
): UsedPlayer {
  const snapshot = shallowRef<PlayerSnapshot | null>(null)
  const player = shallowRef<MediaPlayer | null>(null)
  const onScreen = ref(true)
  let watcher: IntersectionObserver | null = null

  const tellVisible = (): void => player.value?.setVisible(onScreen.value && !document.hidden)

  onMounted(() => {
    const { video, hold } = places
    if (!video.value || !hold.value) return
    player.value = new MediaPlayer({
      mode,
      channelId,
      startMs,
      video: video.value,
      hold: hold.value,
      openView: (at) => openView(mode, channelId, at),
      closeView: (viewId) => void api.closeView(viewId).catch(() => {}), // it may be gone already
      serverNowMs,
      onChange: (next) => (snapshot.value = next),
    })
    player.value.start()
    document.addEventListener('visibilitychange', tellVisible)
    watcher = new IntersectionObserver(([entry]) => {
      onScreen.value = entry?.isIntersecting ?? true
      tellVisible()
    })
    watcher.observe(video.value)
  })

  onBeforeUnmount(() => {
    document.removeEventListener('visibilitychange', tellVisible)
    watcher?.disconnect()
    player.value?.stop()
    player.value = null
  })

  return { snapshot, player }
}

function openView(mode: PlayerMode, channelId: string, startMs: number | null) {
  if (mode === 'live') return api.openLive(channelId)
  return api.openPlayback(channelId, new Date(startMs ?? serverNowMs() - 30_000).toISOString())
}
