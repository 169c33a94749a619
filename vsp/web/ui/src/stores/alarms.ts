/** The alarms that stand now: read when the page opens, at each word of the feed, and in doubt. */
import { ref } from 'vue'
import { api, type Alarm } from '@/api'
import { feed, RESYNC } from '@/api/events'

/** The feed tells each change; this only heals what a lost word left behind. */
const POLL_MS = 10_000

export const alarms = ref<Alarm[]>([])

/** Numbers the questions: an answer that a later one has overtaken is not taken. */
let asked = 0

async function refresh(): Promise<void> {
  const mine = ++asked
  const found = (await api.alarms()).items
  if (mine === asked) alarms.value = found
}

/** Keep the list true until the returned function is called. */
export function watchAlarms(): () => void {
  const quiet = () => void refresh().catch(() => {}) // what was known stands until we hear again
  quiet()
  const timer = window.setInterval(quiet, POLL_MS)
  const unlisten = feed.listen((event) => {
    if (event.type === 'alarm' || event.type === RESYNC) quiet()
  })
  return () => {
    window.clearInterval(timer)
    unlisten()
  }
}
