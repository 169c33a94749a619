/** The counters of the header: pushed when they change, read again after a hole, polled in doubt. */
import { ref } from 'vue'
import { api, type Overview } from '@/api'
import { feed, RESYNC, type FeedEvent } from '@/api/events'

/** The feed pushes changes; this only heals what a lost push left behind. */
const POLL_MS = 10_000

export const overview = ref<Overview | null>(null)

const FIELDS = [
  'devices',
  'devices_online',
  'channels',
  'channels_online',
  'candidates',
  'streams',
  'recording',
  'bits_per_s',
] as const

async function refresh(): Promise<void> {
  overview.value = await api.overview()
}

function take(event: FeedEvent): void {
  if (event.type === RESYNC) void refresh().catch(() => {})
  if (event.type !== 'counts') return
  const source = (event.counts ?? event) as Record<string, unknown>
  const next = { ...overview.value } as Record<string, unknown>
  for (const field of FIELDS) if (typeof source[field] === 'number') next[field] = source[field]
  overview.value = next as unknown as Overview
}

/** Keep the counters alive until the returned function is called. */
export function watchOverview(): () => void {
  const quiet = () => void refresh().catch(() => {}) // the header keeps the last numbers it had
  quiet()
  const timer = window.setInterval(quiet, POLL_MS)
  const unlisten = feed.listen(take)
  return () => {
    window.clearInterval(timer)
    unlisten()
  }
}
